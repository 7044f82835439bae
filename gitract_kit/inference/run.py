"""One prediction under way: scans in, rows out, and a file that is valid at every moment."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from gitract_kit.data.scans import iterate_scans
from gitract_kit.inference.budget import Budget, Level
from gitract_kit.inference.devices import Devices, ScanRows
from gitract_kit.inference.faults import FaultLog
from gitract_kit.inference.pipeline import give_way, overlap
from gitract_kit.inference.record import ScanRecord
from gitract_kit.inference.rows import SubmissionRows

__all__ = ["PredictionRun", "sigterm_as_exit"]

_SAVE_EVERY_S = 60.0
_FALLBACK = "empty rows: no time left"
_FAILED = "empty rows: failed"
_NO_ROWS = ScanRows((), ())


@dataclass
class PredictionRun:
    """What one call of `Predictor.predict` holds on to."""

    rows: SubmissionRows
    output: Path
    organs: Sequence[str]
    devices: Devices
    budget: Budget
    faults: FaultLog
    progress: bool = True
    records: list[ScanRecord] = field(default_factory=list)

    def predict_scans(self, index: pd.DataFrame) -> None:
        """Predict every scan of ``index`` into the rows; faults go to the log, which may raise them.

        Where the process is told to end, what is done so far is written before it does.
        """
        # the devices end first: what still runs on them holds up no one who leaves early
        pool = ThreadPoolExecutor(self.devices.slots, thread_name_prefix="scan", initializer=give_way)
        with pool as scans, self.devices:
            try:
                self._predict_all(index, scans)
            except (KeyboardInterrupt, SystemExit):
                self._save_part()
                raise

    def _predict_all(self, index: pd.DataFrame, scans: ThreadPoolExecutor) -> None:
        names = index["scan"].nunique()
        saved = time.monotonic()
        # rows are taken in order: where a scan is overtaken, one more a process keeps all of them at work
        in_flight = self.devices.slots + (len(self.devices) if self.devices.slots > 1 else 0)
        with tqdm(total=names, desc="predicting", unit="scan", disable=not self.progress) as bar:
            for future in overlap(self._jobs(index), scans, in_flight):
                self._take(future)
                self._note_lost_devices()
                bar.update()
                if time.monotonic() - saved > _SAVE_EVERY_S:
                    self._save_part()
                    saved = time.monotonic()

    def _jobs(self, index: pd.DataFrame) -> Iterator[Callable[[], _Outcome]]:
        """A job for each scan; how it is predicted is decided when there is room for it."""
        remaining = len(index)
        previous = self.budget.full
        for name, slices in iterate_scans(index):
            level = self.budget.choose(len(slices), remaining)
            remaining -= len(slices)
            if level != previous:
                self._say(f"from {name} on: {level.name if level else _FALLBACK}")
            previous = level
            yield partial(self._predict, name, slices, level)

    def _predict(self, name: str, slices: pd.DataFrame, level: Level | None) -> _Outcome:
        """Runs in a thread of its own; an error is part of the outcome, so that its scan is known."""
        start = time.monotonic()
        if level is None:
            return _Outcome(name, len(slices), level)
        try:
            rows = self.devices.predict_rows(slices, level)
        except Exception as error:
            return _Outcome(name, len(slices), level, error=error, seconds=time.monotonic() - start)
        return _Outcome(name, len(slices), level, rows, seconds=time.monotonic() - start)

    def _take(self, future) -> None:
        outcome: _Outcome = future.result()
        if outcome.level is not None:
            self.budget.finish(outcome.level, outcome.slices, failed=outcome.error is not None)
        if outcome.error is not None:
            self.faults.note(outcome.error, outcome.scan)
            self._say(f"{outcome.scan} failed: {outcome.error}")
        for organ, rles in zip(self.organs, outcome.rows.rles, strict=False):
            self.rows.fill(outcome.rows.ids, organ, rles)
        self.records.append(outcome.record())
        # its traceback holds the frames it passed, this outcome among them, and with them a scan's arrays
        outcome.error = None

    def _note_lost_devices(self) -> None:
        for error in self.devices.take_errors():
            self.faults.note(error, lost=False)
            self._say(f"a device failed: {error}")

    def _save_part(self) -> None:
        try:
            self.rows.write(self.output)
        except OSError as error:
            # the file that stands is whole; the last write will tell whether the disk has room again
            self._say(f"{self.output} could not be replaced ({error.strerror}); the one before stands")

    def _say(self, text: str) -> None:
        tqdm.write(text, file=sys.stderr)


@dataclass
class _Outcome:
    scan: str
    slices: int
    level: Level | None
    rows: ScanRows = _NO_ROWS
    error: Exception | None = None
    seconds: float = 0.0

    def record(self) -> ScanRecord:
        done = _FALLBACK if self.level is None else self.level.name
        return ScanRecord(self.scan, self.slices, _FAILED if self.error else done, self.seconds)


@contextmanager
def sigterm_as_exit() -> Iterator[None]:
    """Within it, SIGTERM raises ``SystemExit(143)`` in the main thread; in other threads it is left as it was."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
