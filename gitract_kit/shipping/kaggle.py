"""Datasets, kernels and submissions to Kaggle: preflight, the official client, and what it answered.

    push_dataset("weights/phantom", owner="alice")
    push_kernel("kernels/inference", owner="alice")
    push_submission("uw-madison-gi-tract-image-segmentation", "alice/gitract-inference", 3, "five folds")

What is pushed is rendered into a temporary folder first, where the placeholder owner gives way to ``owner``.
"""

from __future__ import annotations

import dataclasses
import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gitract_kit.errors import KaggleError, PushError
from gitract_kit.files import write_text_atomic
from gitract_kit.shipping.kaggle_client import ANSWER_S, UPLOAD_BYTES_PER_S, ask_kaggle, refusal
from gitract_kit.shipping.kaggle_metadata import DATASET_METADATA, KERNEL_METADATA, read_metadata
from gitract_kit.shipping.kernel import put_owner, render_kernel
from gitract_kit.shipping.preflight import Parcel, check_dataset, check_kernel

__all__ = [
    "InvalidSourcesError",
    "Pushed",
    "check_submission_request",
    "packed_dataset",
    "packed_kernel",
    "push_dataset",
    "push_kernel",
    "push_submission",
]

_INVALID_SOURCES = {
    "invalidDatasetSources": "dataset",
    "invalidCompetitionSources": "competition",
    "invalidKernelSources": "kernel",
    "invalidModelSources": "model",
}


@dataclass(frozen=True)
class Pushed:
    """What Kaggle took, in its own words."""

    id: str
    """``owner/slug``; of a submission, its number."""
    url: str
    version: int | None
    """Of a kernel: what a submission names. Of a dataset: the one that it will be. None where Kaggle does not say."""
    notes: tuple[str, ...] = ()
    """What Kaggle left out without refusing the rest."""

    def __str__(self) -> str:
        version = "" if self.version is None else f" version {self.version}"
        return "\n".join(
            [f"{self.id}{version} {self.url}".rstrip(), *(f"note: {note}" for note in self.notes)]
        )


class InvalidSourcesError(PushError):
    """Kaggle took the kernel without one of its sources: a version runs, and will fail."""

    def __init__(self, message: str, pushed: Pushed) -> None:
        super().__init__(message)
        self.pushed = pushed


@contextmanager
def packed_kernel(
    folder: str | Path, *, owner: str | None = None, fold: int | None = None, resume: bool = False
) -> Iterator[Parcel]:
    """Yield the checked kernel of ``folder`` in a temporary folder, as `push_kernel` would send it."""
    with tempfile.TemporaryDirectory(prefix="gitract-kernel-") as place:
        rendered = render_kernel(folder, place, owner=owner, fold=fold, resume=resume)
        parcel = check_kernel(rendered, original=folder)
        known = {KERNEL_METADATA, *(path.name for path in parcel.sent)}
        stays = sorted(path.name for path in Path(folder).iterdir() if path.name not in known)
        yield dataclasses.replace(parcel, stays=tuple(stays))


@contextmanager
def packed_dataset(
    folder: str | Path, *, owner: str | None = None, dir_mode: str = "skip"
) -> Iterator[Parcel]:
    """Yield the checked dataset of ``folder``; with an ``owner`` to be put in, as links in a temporary folder."""
    folder = Path(folder)
    metadata = read_metadata(folder, DATASET_METADATA)
    named = metadata if owner is None else put_owner(metadata, owner, folder / DATASET_METADATA)
    if named == metadata:
        # in place: the client resumes a broken upload by the files' paths
        yield check_dataset(folder, dir_mode=dir_mode)
        return
    with tempfile.TemporaryDirectory(prefix="gitract-dataset-") as place:
        for path in folder.iterdir():
            if path.name != DATASET_METADATA:
                (Path(place) / path.name).symlink_to(path.absolute())
        write_text_atomic(Path(place) / DATASET_METADATA, json.dumps(named, indent=2) + "\n")
        yield check_dataset(place, dir_mode=dir_mode, original=folder)


def push_dataset(
    folder: str | Path,
    *,
    owner: str | None = None,
    message: str | None = None,
    dir_mode: str = "skip",
    timeout_s: float | None = None,
) -> Pushed:
    """Create the private dataset of ``folder``, or with a ``message`` a new version of it, and return what Kaggle took.

    A version is a whole snapshot: what is not in ``folder`` is not in the version. ``dir_mode`` zip or tar packs
    subfolders. ``timeout_s`` is for all of it; None gives 300 s and as long as a slow line takes. Faults that the user
    can mend are a `PushError`, Kaggle's own a `KaggleError`.
    """
    with packed_dataset(folder, owner=owner, dir_mode=dir_mode) as parcel:
        about = f"dataset {parcel.id}"
        version = None if message is None else _next_version(parcel.id, about)
        answer = ask_kaggle(
            "create_dataset" if message is None else "create_dataset_version",
            about,
            timeout_s=timeout_s or ANSWER_S + parcel.size / UPLOAD_BYTES_PER_S,
            folder=str(parcel.folder),
            files=len(parcel.sent),
            dir_mode=dir_mode,
            **({} if message is None else {"message": message}),
        )
    if answer.get("error"):
        raise refusal(answer["error"], about)
    if str(answer.get("status")).lower() != "ok":
        raise _not_understood(about, answer)
    return Pushed(parcel.id, answer.get("url", ""), version, _tag_notes(answer))


def _next_version(dataset: str, about: str) -> int | None:
    current = ask_kaggle("dataset_version", about, dataset=dataset)["version"]
    return current + 1 if current else None


def push_kernel(
    folder: str | Path,
    *,
    owner: str | None = None,
    fold: int | None = None,
    resume: bool = False,
    timeout_s: float = ANSWER_S,
) -> Pushed:
    """Push the kernel in ``folder``, rendered for ``fold`` where one is given, and return the version that Kaggle runs.

    With ``resume`` it mounts its own output, which its last run must have left. A push that Kaggle took without one
    of the sources is a `PushError` too, an `InvalidSourcesError`: the run cannot work. So is the limit of sessions, as
    a `SessionLimitError`.
    """
    with packed_kernel(folder, owner=owner, fold=fold, resume=resume) as parcel:
        about = f"kernel {parcel.id}"
        answer = ask_kaggle("push_kernel", about, timeout_s=timeout_s, folder=str(parcel.folder))
    if answer.get("error"):
        raise refusal(answer["error"], about)
    if not answer.get("versionNumber"):
        raise _not_understood(about, answer)
    pushed = Pushed(
        _kernel_id(answer, parcel), answer.get("url", ""), answer["versionNumber"], _tag_notes(answer)
    )
    _check_sources(answer, about, pushed)
    return pushed


def push_submission(
    competition: str,
    kernel: str,
    version: int,
    message: str,
    *,
    file: str = "submission.csv",
    timeout_s: float = ANSWER_S,
) -> Pushed:
    """Submit ``file`` of a ``version`` of ``kernel`` (``owner/slug``) to ``competition``, and return its number.

    The version must have run to its end: Kaggle runs it once more, on the hidden test.
    """
    check_submission_request(competition, kernel, version, message)
    about = f"submission of {kernel} version {version}"
    answer = ask_kaggle(
        "submit",
        about,
        timeout_s=timeout_s,
        competition=competition,
        kernel=kernel,
        version=version,
        file=file,
        message=message,
    )
    words = answer.get("message", "")
    if not answer.get("ref") and "success" not in words.lower():
        raise refusal(words, about) if words else _not_understood(about, answer)
    url = f"https://www.kaggle.com/competitions/{competition}/submissions"
    return Pushed(f"submission {answer.get('ref', '')}".rstrip(), url, None, (words,) if words else ())


def check_submission_request(competition: str, kernel: str, version: int, message: str) -> None:
    """Raise a `PushError` that lists what is wrong with a submission before Kaggle is asked."""
    faults = list(_find_submission_faults(competition, kernel, version, message))
    if faults:
        raise PushError("nothing was submitted: " + "; ".join(faults))


def _find_submission_faults(competition: str, kernel: str, version: int, message: str) -> Iterator[str]:
    if not re.fullmatch(r"[a-z0-9-]+", competition):
        yield f"the competition is {competition!r}, expected its bare slug, as in its page's address"
    if not re.fullmatch(r"[\w-]+/[\w-]{5,}", kernel):
        yield f"the kernel is {kernel!r}, expected OWNER/SLUG"
    if version < 1:
        yield f"the version is {version}, expected the number that the push printed, 1 or more"
    if not message.strip():
        yield "the message is empty: say in a few words what is submitted"


def _check_sources(answer: Mapping[str, Any], about: str, pushed: Pushed) -> None:
    invalid = [f"{kind} {source}" for key, kind in _INVALID_SOURCES.items() for source in answer.get(key, [])]
    if invalid:
        raise InvalidSourcesError(
            f"{about}: pushed as version {pushed.version}, but without {', '.join(invalid)}: its run will "
            "fail. Push or correct the source (a new dataset takes minutes to be ready), then push the kernel again",
            pushed,
        )


def _kernel_id(answer: Mapping[str, Any], parcel: Parcel) -> str:
    """Kaggle's own word for the kernel, ``/code/owner/slug``, which differs where a title was changed."""
    ref = str(answer.get("ref", "")).strip("/").removeprefix("code/")
    return ref if re.fullmatch(r"[\w-]+/[\w-]+", ref) else parcel.id


def _tag_notes(answer: Mapping[str, Any]) -> tuple[str, ...]:
    tags = answer.get("invalidTags", [])
    return (f"Kaggle knows no keyword {', '.join(tags)}; it was left out",) if tags else ()


def _not_understood(about: str, answer: Mapping[str, Any]) -> KaggleError:
    return KaggleError(
        f"{about}: Kaggle's answer says neither yes nor no ({json.dumps(answer)[:200]}); look at "
        "https://www.kaggle.com/work whether it arrived, then push again"
    )
