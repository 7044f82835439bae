"""What a run's folder says of itself: how it was computed, and what was said on the way."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from gitract_kit.files import write_text_atomic
from gitract_kit.versions import package_versions

__all__ = ["BEFORE_TRAINING", "RunLog", "describe_computing", "write_record"]

_LOG, _RECORD = "train.log", "run.json"
BEFORE_TRAINING = {_LOG, _RECORD}
"""The files that are in a run's folder before its first epoch is over."""


class RunLog:
    """Says things on stderr where ``shown``, and with the time in ``train.log`` of ``folder``, once that is there.

    Without a ``folder`` nothing is written down.
    """

    def __init__(self, folder: Path | None, *, shown: bool) -> None:
        self._path, self._shown = folder and folder / _LOG, shown

    def say(self, text: str) -> None:
        """Say ``text``, on stderr without breaking a progress bar."""
        if self._shown:
            tqdm.write(text, file=sys.stderr)
        self.note(text)

    def note(self, text: str) -> None:
        """Write ``text`` to the log alone."""
        # a log that cannot be written, on a full disk say, must not hide what there was to say
        with suppress(OSError):
            if self._path is not None and self._path.parent.is_dir():
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(f"{_now()} {text}\n")


def write_record(folder: Path, about: dict[str, Any]) -> None:
    """Write ``run.json``: ``about``, and when, by which command and from which state of the code it was started."""
    record = {"format": 1, "started": _now(), **about, **_describe_origin()}
    write_text_atomic(folder / _RECORD, json.dumps(record, indent=2) + "\n")


def _describe_origin() -> dict[str, Any]:
    """Return the command, the versions, and the working folder with its git revision."""
    return {
        "command": sys.argv,
        "working_folder": str(Path.cwd()),
        "git_revision": _git_revision(),
        "versions": package_versions(),
    }


def describe_computing(
    device: torch.device, precision: torch.dtype | None, *, compiled: bool, processes: int
) -> dict[str, Any]:
    """Return what numbers of this run depend on besides its settings."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    return {
        "device": str(device),
        "device_name": name or platform.machine(),
        "precision": "fp32" if precision is None else str(precision).removeprefix("torch."),
        "memory_format": "channels_last",
        "compiled": compiled,
        "processes": processes,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
    }


def _git_revision() -> str:
    """Return the commit of the working folder, ``(changed)`` where tracked files differ from it, or ``unknown``."""
    revision = _git("rev-parse", "HEAD")
    if not revision:
        return "unknown"
    return f"{revision} (changed)" if _git("status", "--porcelain", "--untracked-files=no") else revision


def _git(*arguments: str) -> str:
    # no git, no repository, a repository of another owner: the run does not depend on it
    try:
        answer = subprocess.run(
            ["git", *arguments], capture_output=True, text=True, timeout=10, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")
