"""One act of a rehearsal: an input tree, a working folder, and the notebook executed between them."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gitract_kit.errors import GitractError
from gitract_kit.files import write_text_atomic
from gitract_kit.shipping.mounts import Materials, build_input_tree, read_kernel_metadata
from gitract_kit.shipping.network_guard import LOG_VARIABLE
from gitract_kit.shipping.sandbox import WatchedRun, namespace_command, run_watched

__all__ = ["Act", "Limits", "Played", "play_act"]

_HERE = Path(__file__).parent
_INHERITED = ("CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH", "LANG", "OMP_NUM_THREADS", "TZ")


@dataclass(frozen=True)
class Limits:
    """What Kaggle gives a notebook (competition page; the notebook machine as of 2026)."""

    seconds: float = 9 * 3600.0
    memory_bytes: int = 30 * 2**30


@dataclass(frozen=True)
class Act:
    """One way in which Kaggle runs the notebook."""

    layout: str
    """One of `MOUNT_LAYOUTS`."""
    rerun: bool
    """Whether it is the hidden rerun with a full test set, or the first save with an empty one."""

    @property
    def name(self) -> str:
        """As folders and reports call it."""
        return f"{'rerun' if self.rerun else 'save'}-{self.layout}"

    def __str__(self) -> str:
        older = self.layout != "2026"
        what = "hidden rerun" if self.rerun else f"first save, {'no' if older else 'empty'} test"
        return f"{what}, older mounts" if older else f"{what}, mounts of {self.layout}"


@dataclass(frozen=True)
class Played:
    """What an act left behind."""

    act: Act
    folder: Path
    run: WatchedRun
    error: tuple[str, str] | None
    """Name and text of what the notebook raised."""
    network: tuple[str, ...]
    """What was tried on the network."""
    isolated: bool
    """Whether a network namespace stood between it and the network, or Python's refused sockets alone."""
    read_only: bool
    """Whether the input could not be written to, or was compared afterwards."""
    written_input: tuple[str, ...] = field(default=())
    """Files of the input that were changed."""

    @property
    def working(self) -> Path:
        """The notebook's working folder."""
        return self.folder / "working"

    @property
    def notebook(self) -> Path:
        """The executed notebook."""
        return self.folder / "executed.ipynb"

    @property
    def submission(self) -> Path:
        """Where the submission is looked for."""
        return self.working / "submission.csv"


def play_act(
    act: Act,
    materials: Materials,
    folder: Path,
    limits: Limits,
    *,
    python: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Played:
    """Execute the kernel's notebook as ``act`` says, in the new ``folder``; return what came of it.

    ``python`` is the interpreter of the notebook's kernel: None takes the present one, and what the notebook installs
    goes to a folder of its own. ``environment`` is put before the notebook's own. A notebook that fails is no error
    here. Without nbclient a `GitractError`.
    """
    _require_nbclient()
    for name in ("working", "home", "tmp", "packages"):
        (folder / name).mkdir(parents=True)
    behind = build_input_tree(folder / "input", materials, act.layout, empty_test=not act.rerun)
    before = dict(_fingerprints(behind))
    plan = _write_plan(act, materials, folder, behind, python, environment or {})
    command = [*namespace_command(), sys.executable, str(_HERE / "play_notebook.py"), str(plan)]
    run = run_watched(
        command,
        _outer_environment(folder),
        folder / "log.txt",
        limit_s=limits.seconds,
        limit_bytes=limits.memory_bytes,
    )
    after = dict(_fingerprints(behind))
    changed = {path for path in {*before, *after} if before.get(path) != after.get(path)}
    return _collect(act, folder, run, tuple(sorted(changed)))


def _collect(act: Act, folder: Path, run: WatchedRun, changed: tuple[str, ...]) -> Played:
    outcome = _read_json(folder / "outcome.json")
    error = outcome.get("error")
    if run.stopped is None and not outcome:
        last = run.errors.strip().splitlines()[-1:] or ["it wrote nothing"]
        raise GitractError(f"the notebook could not be run, see {folder / 'log.txt'}: {last[0]}")
    log = folder / "network.jsonl"
    lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
    attempts = [json.loads(line) for line in lines]
    return Played(
        act,
        folder,
        run,
        (error["name"], error["text"]) if error else None,
        tuple(f"{attempt['host']} ({attempt['event']})" for attempt in attempts),
        bool(namespace_command()),
        bool(outcome.get("read_only")),
        # what was locked, only others can have changed
        () if outcome.get("read_only") else changed,
    )


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _require_nbclient() -> None:
    for package in ("nbclient", "nbformat", "ipykernel"):
        if importlib.util.find_spec(package) is None:
            raise GitractError(
                f"a rehearsal executes a notebook and needs {package}: pip install 'gitract-kit[demo]'"
            )


def _write_plan(
    act: Act,
    materials: Materials,
    folder: Path,
    behind: Sequence[Path],
    python: Path | None,
    environment: Mapping[str, str],
) -> Path:
    notebook = read_kernel_metadata(materials.kernel)["code_file"]
    _write_guard(folder / "guard")
    _write_kernel_spec(folder / "jupyter" / "kernels" / "rehearsal", python or Path(sys.executable))
    plan = {
        "notebook": str((materials.kernel / notebook).resolve()),
        "executed": str((folder / "executed.ipynb").resolve()),
        "outcome": str((folder / "outcome.json").resolve()),
        "working": str((folder / "working").resolve()),
        "kernel_name": "rehearsal",
        "environment": {**_notebook_environment(act, folder.resolve(), python), **environment},
        "namespaces": bool(namespace_command()),
        "read_only": [str(path) for path in [(folder / "input").resolve(), *behind]],
    }
    path = folder / "plan.json"
    write_text_atomic(path, json.dumps(plan, indent=2) + "\n")
    return path


def _write_guard(folder: Path) -> None:
    folder.mkdir()
    shutil.copyfile(_HERE / "network_guard.py", folder / "sitecustomize.py")


def _write_kernel_spec(folder: Path, python: Path) -> None:
    spec = {
        "argv": [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "rehearsal",
        "language": "python",
    }
    write_text_atomic(folder / "kernel.json", json.dumps(spec))


def _notebook_environment(act: Act, folder: Path, python: Path | None) -> dict[str, str]:
    """As on Kaggle: a home with nothing in it, and no variable of this machine that could help."""
    bin_folder = (python or Path(sys.executable)).parent
    environment = {
        **_base_environment(folder),
        "PATH": os.pathsep.join([str(bin_folder), os.environ.get("PATH", os.defpath)]),
        "PYTHONPATH": str(folder / "guard"),
        LOG_VARIABLE: str(folder / "network.jsonl"),
        "MPLBACKEND": "Agg",
        "PIP_ROOT_USER_ACTION": "ignore",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "GITRACT_INPUT": str(folder / "input"),
        "KAGGLE_KERNEL_RUN_TYPE": "Batch",
    }
    if python is None:
        # the present packages are the user's: what the notebook installs must not touch them
        packages = str(folder / "packages")
        environment["PIP_TARGET"] = packages
        environment["PYTHONPATH"] = os.pathsep.join([environment["PYTHONPATH"], packages])
    if act.rerun:
        environment["KAGGLE_IS_COMPETITION_RERUN"] = "1"
    return environment


def _outer_environment(folder: Path) -> dict[str, str]:
    """Of the process that executes the notebook: it needs the present packages, and finds the kernel's spec."""
    folder = folder.resolve()
    return {
        **_base_environment(folder),
        "PATH": os.environ.get("PATH", os.defpath),
        "JUPYTER_PATH": str(folder / "jupyter"),
        "PYTHONWARNINGS": "ignore",
    }


def _base_environment(folder: Path) -> dict[str, str]:
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return {**inherited, "HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp")}


def _fingerprints(folders: Sequence[Path]) -> Iterator[tuple[str, tuple[int, int]]]:
    for folder in folders:
        for place, _, names in os.walk(folder):
            for name in names:
                path = os.path.join(place, name)
                status = os.lstat(path)
                yield path, (status.st_size, status.st_mtime_ns)
