"""The inference notebook, run here as Kaggle would: against mounted input, in a working folder of its own."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from gitract_kit.errors import DatasetError, GitractError
from gitract_kit.files import write_text_atomic

__all__ = ["Rehearsal", "rehearse"]


@dataclass(frozen=True)
class Rehearsal:
    """What a rehearsal left behind."""

    submission: Path
    """``working/submission.csv``."""
    notebook: Path
    """The executed notebook, its outputs in it."""
    seconds: float
    """How long the notebook ran."""

    def __str__(self) -> str:
        return f"notebook     {self.notebook} (ran {self.seconds:.0f} s)\nsubmission   {self.submission}"


def rehearse(competition: Path, bundle: Path, kernel: Path, out: Path) -> Rehearsal:
    """Execute the notebook of ``kernel`` in ``out/working`` against ``out/input``, and return what came of it.

    ``competition`` is mounted as the kernel's competition source and ``bundle`` as its first dataset source, in the
    layout of 2026 (``competitions/SLUG``, ``datasets/OWNER/SLUG``). ``out`` must be new. A notebook that fails is a
    `GitractError` with the failing cell's message; what it had written stays in ``out``.
    """
    if out.exists() and any(out.iterdir()):
        raise DatasetError(f"{out} is not empty; give a new folder or remove it")
    metadata = _read_metadata(kernel)
    source, working = out / "input", out / "working"
    working.mkdir(parents=True)
    _mount(competition, source / "competitions" / metadata["competition_sources"][0])
    _mount(bundle, source / "datasets" / metadata["dataset_sources"][0])
    executed = working / metadata["code_file"]
    started = time.monotonic()
    _execute(kernel / metadata["code_file"], executed, source, working)
    submission = working / "submission.csv"
    if not submission.is_file():
        raise GitractError(f"the notebook ended without {submission}; see {executed}")
    return Rehearsal(submission, executed, time.monotonic() - started)


def _read_metadata(kernel: Path) -> dict:
    path = kernel / "kernel-metadata.json"
    if not path.is_file():
        raise DatasetError(
            f"{kernel} holds no kernel-metadata.json; give a kernel's folder, say kernels/inference"
        )
    return json.loads(path.read_text(encoding="utf-8"))


def _mount(folder: Path, place: Path) -> None:
    if not folder.is_dir():
        raise DatasetError(f"{folder} is not a folder")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(folder.resolve(), target_is_directory=True)


def _execute(notebook: Path, executed: Path, source: Path, working: Path) -> None:
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    cells = nbformat.read(notebook, as_version=4)
    client = NotebookClient(
        cells, kernel_name="python3", timeout=None, resources={"metadata": {"path": str(working)}}
    )
    environment = {**os.environ, "GITRACT_INPUT": str(source.resolve()), "KAGGLE_IS_COMPETITION_RERUN": "1"}
    try:
        client.execute(env=environment)
    except CellExecutionError as error:
        raise GitractError(f"the notebook failed, see {executed}: {error.ename}: {error.evalue}") from error
    finally:
        write_text_atomic(executed, nbformat.writes(cells))
