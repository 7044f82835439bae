"""Runs on Kaggle: how they stand, when they end, and what they left."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gitract_kit.errors import KaggleError, PushError
from gitract_kit.shipping.kaggle_client import ask_kaggle

__all__ = [
    "FAILED_LOOKS",
    "POLL_S",
    "RUN_LIMIT_S",
    "KernelState",
    "KernelWatch",
    "collect_output",
    "make_output_folder",
    "read_kernel_state",
    "wait_for_dataset",
    "wait_for_kernel",
]

RUN_LIMIT_S = 13 * 3600.0
"""How long a run is waited for: the 12 h that Kaggle gives it, and an hour in the queue."""
POLL_S = 60.0
OUTPUT_S = 3600.0
FAILED_LOOKS = 5
"""In a row, then a wait is given up: one of hours must outlive a bad minute."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class KernelState:
    """How the last run of a kernel stands."""

    kernel: str
    status: str
    """Kaggle's word: QUEUED, RUNNING, COMPLETE, ERROR, CANCEL_ACKNOWLEDGED and so on."""
    failure: str

    @property
    def over(self) -> bool:
        """Whether nothing more will come of it."""
        return self.status in ("COMPLETE", "ERROR", "CANCEL_ACKNOWLEDGED")

    def __str__(self) -> str:
        return f"{self.kernel} {self.status}" + (f": {self.failure}" if self.failure else "")


def read_kernel_state(kernel: str) -> KernelState:
    """Ask Kaggle how the last run of ``kernel`` (``owner/slug``) stands."""
    answer = ask_kaggle("kernel_status", f"kernel {kernel}", kernel=kernel)
    return KernelState(kernel, answer["status"], answer.get("failureMessage") or "")


def make_output_folder(out: str | Path) -> None:
    """Make the folder that outputs go to. One that cannot be made or written to is a `PushError`."""
    try:
        Path(out).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise PushError(
            f"{out}: the runs' output cannot go there ({error.strerror}); give another folder with --output"
        ) from error


def collect_output(kernel: str, out: str | Path) -> list[Path]:
    """Download what the kernel's last run left, and its log, into ``out``; return the files, sorted.

    Files of the same name are replaced, once all have arrived. Several folds may share one ``out``: each run leaves a
    folder of its own fold. A download that fails and an ``out`` that cannot be written to are a `KaggleError`.
    """
    try:
        return _collect_output(kernel, Path(out))
    except OSError as error:
        raise KaggleError(
            f"output of {kernel}: cannot be put into {out} ({error}); free space there, or mend what else it names"
        ) from error


def _collect_output(kernel: str, out: Path) -> list[Path]:
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".collecting-", dir=out) as place:
        about = f"output of {kernel}"
        answer = ask_kaggle("kernel_output", about, timeout_s=OUTPUT_S, kernel=kernel, folder=place)
        arrived = sorted(set(answer["files"]))
        for name in arrived:
            if not (Path(place) / name).resolve().is_relative_to(Path(place).resolve()):
                raise KaggleError(
                    f"{about}: {name} lies outside the output folder; look at the kernel's page"
                )
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.move(Path(place) / name, out / name)
    return [out / name for name in arrived]


class KernelWatch:
    """One run looked at again and again: says each change, collects at the end, puts up with some failures of both."""

    def __init__(
        self,
        kernel: str,
        *,
        output: str | Path | None = None,
        limit_s: float = RUN_LIMIT_S,
        say: Say = lambda line: None,
    ) -> None:
        self.state = KernelState(kernel, "unknown", "")
        self.output, self.limit_s, self.say = output, limit_s, say
        self.since = time.monotonic()
        self.failed_looks = 0

    def finished(self) -> bool:
        """Look once: whether the run is complete and its output here.

        A run that failed, or takes too long, is a `KaggleError`; so is an output that does not come.
        """
        if not self.state.over:
            self._look()
        if self.state.over:
            return self._collect()
        if time.monotonic() - self.since > self.limit_s:
            raise KaggleError(f"kernel {self.state}, after {self.limit_s / 3600:.1f} h; see {self.page}")
        return False

    @property
    def page(self) -> str:
        """Where a person sees the run."""
        return f"https://www.kaggle.com/code/{self.state.kernel}"

    def _look(self) -> None:
        try:
            state = read_kernel_state(self.state.kernel)
        except KaggleError as error:
            self.failed_looks += 1
            if self.failed_looks >= FAILED_LOOKS:
                raise
            self.say(f"{error} (looking again)")
            return
        if state != self.state:
            self.say(str(state))
        self.state, self.failed_looks = state, 0

    def _collect(self) -> bool:
        where = self.page
        if self.output is not None:
            try:
                files = collect_output(self.state.kernel, self.output)
            except KaggleError as error:
                self._collect_later(error)
                return False
            self.say(f"{self.state.kernel}: {len(files)} files in {self.output}")
            where = next((str(file) for file in files if file.suffix == ".log"), self.page)
        if self.state.status != "COMPLETE":
            raise KaggleError(f"kernel {self.state}; the run did not end well: read its log, {where}")
        return True

    def _collect_later(self, error: KaggleError) -> None:
        self.failed_looks += 1
        if self.failed_looks >= FAILED_LOOKS:
            # the error itself may say to push again, which would repeat a run of hours
            raise KaggleError(
                f"kernel {self.state}, but its output is not here: {error}. Kaggle keeps it: once that is mended, "
                f"`kaggle kernels output {self.state.kernel} -p {self.output}` gets it without another run"
            ) from error
        self.say(f"{error} (collecting again)")


def wait_for_kernel(
    kernel: str,
    *,
    output: str | Path | None = None,
    poll_s: float = POLL_S,
    limit_s: float = RUN_LIMIT_S,
    say: Say = lambda line: None,
) -> KernelState:
    """Return once the kernel's run is complete, its output in ``output`` where one is given.

    ``say`` is called with a line at each change. A run that ended in any other way, or not within ``limit_s``, is a
    `KaggleError`; what a failed run left, its log above all, is collected all the same.
    """
    watch = KernelWatch(kernel, output=output, limit_s=limit_s, say=say)
    while not watch.finished():
        time.sleep(poll_s)
    return watch.state


def wait_for_dataset(
    dataset: str,
    *,
    version: int | None = None,
    poll_s: float = 10.0,
    limit_s: float = 3600.0,
    say: Say = lambda line: None,
) -> None:
    """Return once Kaggle has unpacked the dataset (``owner/slug``), so that kernels can mount it.

    With a ``version``, once that is the current one: until then a kernel would mount the one before.
    """
    started = time.monotonic()
    while (status := _dataset_status(dataset, version)) != "ready":
        if status in ("failed", "deleted") or time.monotonic() - started > limit_s:
            raise KaggleError(
                f"dataset {dataset}: is {status}, expected ready; see https://www.kaggle.com/datasets/{dataset}"
            )
        say(f"{dataset} {status}")
        time.sleep(poll_s)


def _dataset_status(dataset: str, version: int | None) -> str:
    about = f"dataset {dataset}"
    status = ask_kaggle("dataset_status", about, dataset=dataset)["status"]
    if status == "ready" and version is not None:
        current = ask_kaggle("dataset_version", about, dataset=dataset)["version"]
        if current < version:
            return f"at version {current}, not yet {version}"
    return status
