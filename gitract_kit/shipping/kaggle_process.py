"""The official client, in a process of its own: one question read from stdin, one answer written to stdout.

    {"method": "kernel_status", "arguments": {"kernel": "owner/slug"}}
    {"value": {...}} or {"fault": {"kind": "http", "status": 409, "message": "..."}}

A process, because importing the client signs in, because it waits for an answer for ever, and because what it prints
is for people. Its methods are called and their answers handed back; the exit codes of its command line, which are 0
for many failures, play no part.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any

__all__ = ["answer", "main"]


class _UploadError(Exception):
    """A file did not arrive, which the client itself passes over in silence."""


def main() -> None:
    """Answer the question on stdin."""
    question = json.load(sys.stdin)
    with contextlib.redirect_stdout(io.StringIO()) as said:
        result = answer(question["method"], question["arguments"])
    json.dump({**result, "said": said.getvalue()}, sys.stdout)


def answer(method: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return ``{"value": ...}``, or ``{"fault": ...}`` with what went wrong in words for a machine."""
    try:
        api = _sign_in()
    except ModuleNotFoundError as error:
        return {"fault": {"kind": "missing", "message": str(error)}}
    except SystemExit:
        return {"fault": {"kind": "signed out", "message": "the client found no credentials"}}
    except OSError as error:
        return {"fault": _describe(error)}
    try:
        return {"value": _METHODS[method](api, **arguments)}
    # the client raises whatever its libraries do; the asking side sorts it and says what to do
    except Exception as error:
        return {"fault": _describe(error)}


def _sign_in():
    from kaggle.api.kaggle_api_extended import KaggleApi

    class Api(KaggleApi):
        """The client, with two silences broken: a file that was not uploaded, and one that was not downloaded."""

        expected_uploads = 0

        def upload_files(self, request, *arguments, **named):
            super().upload_files(request, *arguments, **named)
            if len(request.files) != self.expected_uploads:
                raise _UploadError(f"{len(request.files)} of {self.expected_uploads} files arrived")

        def download_needed(self, response, outfile, quiet=True):
            response.raise_for_status()
            return super().download_needed(response, outfile, quiet)

    api = Api()
    api.authenticate()
    return api


def _describe(error: Exception) -> dict[str, Any]:
    response = getattr(error, "response", None)
    fault = {"message": str(error), "type": type(error).__name__}
    if isinstance(error, _UploadError):
        return {**fault, "kind": "upload"}
    if response is not None:
        return {**fault, "kind": "http", "status": _status(response)}
    if isinstance(error, json.JSONDecodeError | KeyError):
        return {**fault, "kind": "unreadable"}
    if isinstance(error, ValueError):
        return {**fault, "kind": "refused"}
    return {**fault, "kind": "connection" if isinstance(error, OSError) else "unexpected"}


def _status(response) -> int:
    """The HTTP status, or the one in the body where the server hid it behind a 200."""
    if response.status_code >= 400:
        return response.status_code
    with contextlib.suppress(ValueError, TypeError, KeyError):
        return int(response.json()["code"])
    return 0


def _create_dataset(api, folder: str, files: int, dir_mode: str) -> dict[str, Any]:
    api.expected_uploads = files
    return api.dataset_create_new(folder, dir_mode=dir_mode).to_dict()


def _create_dataset_version(api, folder: str, files: int, dir_mode: str, message: str) -> dict[str, Any]:
    api.expected_uploads = files
    return api.dataset_create_version(folder, message, dir_mode=dir_mode).to_dict()


def _dataset_status(api, dataset: str) -> dict[str, Any]:
    return {"status": api.dataset_status(dataset)}


def _dataset_version(api, dataset: str) -> dict[str, Any]:
    from kaggle.api.kaggle_api_extended import ApiGetDatasetRequest

    request = ApiGetDatasetRequest()
    request.owner_slug, _, request.dataset_slug = dataset.partition("/")
    with api.build_kaggle_client() as kaggle:
        return {"version": kaggle.datasets.dataset_api_client.get_dataset(request).current_version_number}


def _push_kernel(api, folder: str) -> dict[str, Any]:
    return api.kernels_push(folder).to_dict()


def _kernel_status(api, kernel: str) -> dict[str, Any]:
    # with defaults, because QUEUED is one and would be left out
    return api.kernels_status(kernel).to_dict(ignore_defaults=False)


def _kernel_output(api, kernel: str, folder: str) -> dict[str, Any]:
    files, _ = api.kernels_output(kernel, folder, page_size=100)
    return {"files": [str(Path(file).relative_to(folder)) for file in files]}


def _submit(api, competition: str, kernel: str, version: int, file: str, message: str) -> dict[str, Any]:
    return api.competition_submit_code(file, message, competition, kernel, version).to_dict()


_METHODS = {
    "create_dataset": _create_dataset,
    "create_dataset_version": _create_dataset_version,
    "dataset_status": _dataset_status,
    "dataset_version": _dataset_version,
    "push_kernel": _push_kernel,
    "kernel_status": _kernel_status,
    "kernel_output": _kernel_output,
    "submit": _submit,
}

if __name__ == "__main__":
    main()
