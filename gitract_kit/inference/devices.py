"""Several devices, a process each: whole scans go to whichever has room, and only run-length strings come back.

Faults, the budget, the rows and the record stay in the process that was asked; the others predict what they are sent.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import pickle
import signal
import threading
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import NamedTuple, Protocol

import pandas as pd

from gitract_kit.errors import GitractError, PredictionError
from gitract_kit.inference.budget import Level
from gitract_kit.inference.pipeline import give_way

__all__ = ["Devices", "ScanRows"]

_CLOSE_S = 5.0
_START_S = 120.0
# scans that a device fails at and another one does not, before it is not asked any more
_MOST_FAILURES = 2


class ScanRows(NamedTuple):
    """What a submission says of one scan."""

    ids: Sequence[str]
    rles: Sequence[Sequence[str]]
    """A run-length string an id, for each organ in order."""


class RowPredictor(Protocol):
    """What every process has one of."""

    def predict_rows(self, slices: pd.DataFrame, level: Level) -> ScanRows:
        """Return the rows of the scan of these index rows."""
        ...


class Devices:
    """The predictor of this process, and one made by each of ``elsewhere`` in a process of its own, as one.

    ``elsewhere`` are named; what makes them must pickle (a module's function, a `functools.partial`). Each process has
    at most ``slots`` scans in memory, one in the network while the other is decoded or encoded. A process gets its
    first scan once its predictor is made; where that fails, the error is among `take_errors` and the others go on.
    Where a process dies, the scans that it held end in a `PredictionError`. Use it as a context: leaving ends them.
    """

    def __init__(
        self,
        here: RowPredictor,
        elsewhere: Sequence[tuple[str, Callable[[], RowPredictor]]] = (),
        slots: int = 2,
    ) -> None:
        self._changed = threading.Condition()
        self._errors: list[Exception] = []
        self._room: dict[RowPredictor, int] = {here: slots}
        self._failures: Counter[RowPredictor] = Counter()
        self._slots = slots
        self._starting = len(elsewhere)
        self._processes = [
            _Process(name, create, slots, self._is_ready, self._ended) for name, create in elsewhere
        ]

    def __len__(self) -> int:
        return 1 + len(self._processes)

    @property
    def slots(self) -> int:
        """How many scans all processes together have in memory at most."""
        return len(self) * self._slots

    def __enter__(self) -> Devices:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.end()

    def predict_rows(self, slices: pd.DataFrame, level: Level) -> ScanRows:
        """Return the rows of the scan of these index rows, from the device with most room; waits until one has any.

        An error that is not the kit's own may be the device's rather than the scan's, as when a GPU has broken:
        another device, where there is one, tries the scan too. One that fails at two scans that another can
        predict gets a third only where there is no other; both failures are among `take_errors`.
        """
        failures: dict[RowPredictor, str] = {}
        device = self._take_room(failures)
        while device is not None:
            try:
                rows = self._predict_on(device, slices, level)
            except _NeverSentError:
                # it died while it had nothing to do with this scan
                self._drop(device)
                device = self._take_room(failures)
            except GitractError:
                raise
            except Exception as error:
                failures[device] = f"{type(error).__name__}: {error}"
                device = self._take_room(failures)
                if device is None:
                    raise
            else:
                self._hold_against(failures, slices)
                return rows
        raise PredictionError("; ".join(["no device is left for this scan", *failures.values()]))

    def _predict_on(self, device: RowPredictor, slices: pd.DataFrame, level: Level) -> ScanRows:
        try:
            return device.predict_rows(slices, level)
        finally:
            with self._changed:
                # one that died has no room any more
                if device in self._room:
                    self._room[device] += 1
                self._changed.notify_all()

    def _take_room(self, failed: Collection[RowPredictor]) -> RowPredictor | None:
        """The device to try next, once it has room; None where all that there are have ``failed``."""
        with self._changed:
            if not self._able(failed):
                # one that never starts must not hold up the run
                self._changed.wait_for(lambda: self._able(failed) or not self._starting, _START_S)
            self._changed.wait_for(lambda: self._with_room(failed) or not self._able(failed))
            free = self._with_room(failed)
            if not free:
                return None
            device = max(free, key=self._room.__getitem__)
            self._room[device] -= 1
        return device

    def _able(self, failed: Collection[RowPredictor]) -> list[RowPredictor]:
        others = [device for device in self._room if device not in failed]
        return [device for device in others if self._failures[device] < _MOST_FAILURES] or others

    def _with_room(self, failed: Collection[RowPredictor]) -> list[RowPredictor]:
        return [device for device in self._able(failed) if self._room[device] > 0]

    def _hold_against(self, failures: Mapping[RowPredictor, str], slices: pd.DataFrame) -> None:
        """Note which devices failed at a scan that another one has predicted."""
        with self._changed:
            for device, error in failures.items():
                self._failures[device] += 1
                name = device.name if isinstance(device, _Process) else "the first device"
                text = f"{name} failed at {slices.iloc[0]['scan']}, which another device then predicted ({error})"
                if self._failures[device] == _MOST_FAILURES:
                    text += "; it gets no more scans while there is another"
                self._errors.append(PredictionError(text))

    def take_errors(self) -> list[Exception]:
        """Return, once, what went wrong with devices rather than with scans; no scan was lost to it."""
        with self._changed:
            errors, self._errors = self._errors, []
        return errors

    def _is_ready(self, process: _Process) -> None:
        with self._changed:
            self._starting -= 1
            self._room[process] = self._slots
            self._changed.notify_all()

    def _ended(self, process: _Process, error: Exception | None, *, begun: bool) -> None:
        with self._changed:
            self._starting -= not begun
            if error is not None:
                self._errors.append(error)
        self._drop(process)

    def _drop(self, device: RowPredictor) -> None:
        with self._changed:
            self._room.pop(device, None)
            self._changed.notify_all()


class _NeverSentError(Exception):
    """A scan did not reach its process."""


class _Process:
    """The predictor of another process."""

    def __init__(
        self,
        name: str,
        create: Callable[[], RowPredictor],
        slots: int,
        ready: Callable[[_Process], None],
        ended: Callable[..., None],
    ) -> None:
        self.name = name
        self._ready, self._ended = ready, ended
        self._answers: dict[int, Future[ScanRows]] = {}
        self._tickets = itertools.count()
        self._sending = threading.Lock()
        # a copy of this process would hold a GPU's state that does not work there
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, create, slots), name=f"predict-{name}", daemon=True
        )
        self._process.start()
        theirs.close()
        threading.Thread(target=self._read, name=f"answers-{name}", daemon=True).start()

    def predict_rows(self, slices: pd.DataFrame, level: Level) -> ScanRows:
        answer: Future[ScanRows] = Future()
        with self._sending:
            ticket = next(self._tickets)
            self._answers[ticket] = answer
            try:
                self._connection.send((ticket, slices, level))
            except OSError as error:
                self._answers.pop(ticket, None)
                raise _NeverSentError from error
        return answer.result()

    def end(self) -> None:
        self._process.terminate()
        self._process.join(_CLOSE_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _read(self) -> None:
        begun = False
        try:
            _, _, error = self._connection.recv()
            if error is None:
                begun = True
                self._ready(self)
            while begun:
                ticket, rows, answer_error = self._connection.recv()
                self._take(ticket, rows, answer_error)
        except (EOFError, OSError):
            error = self._death()
        # where it held scans, they tell of it
        self._ended(self, None if self._answers else error, begun=begun)
        for ticket in list(self._answers):
            self._take(ticket, None, error)

    def _take(self, ticket: int, rows: ScanRows | None, error: Exception | None) -> None:
        answer = self._answers.pop(ticket, Future())
        if error is None:
            answer.set_result(rows)
        else:
            answer.set_exception(error)

    def _death(self) -> PredictionError:
        self._process.join(_CLOSE_S)
        return PredictionError(
            f"the process of {self.name} died with exit code {self._process.exitcode}; what it said is above: "
            "out of memory is the likeliest, so look at both memories, or predict on one device"
        )


def _serve(connection: Connection, create: Callable[[], RowPredictor], slots: int) -> None:
    """The whole life of another process: make the predictor, then answer until the pipe closes or a signal ends it."""
    # Ctrl-C goes to the whole group; the process that was asked saves, and then ends the others
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        predictor = create()
    except Exception as error:
        connection.send((None, None, _portable(error)))
        return
    sending = threading.Lock()

    def answer(ticket: int, slices: pd.DataFrame, level: Level) -> None:
        try:
            message = (ticket, predictor.predict_rows(slices, level), None)
        except Exception as error:
            # what its traceback holds, a scan in a GPU's memory among it, must not outlive the answer
            message = (ticket, None, _portable(error.with_traceback(None)))
        with sending:
            connection.send(message)

    connection.send((None, None, None))
    pool = ThreadPoolExecutor(slots, thread_name_prefix="scan", initializer=give_way)
    while True:
        try:
            pool.submit(answer, *connection.recv())
        except (EOFError, OSError):
            # the process that asked is gone, and with it whoever wants an answer
            os._exit(1)


def _portable(error: Exception) -> Exception:
    """``error`` where it survives the way through a pipe, else one that tells the same."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        kind = PredictionError if isinstance(error, GitractError) else RuntimeError
        return kind(f"{type(error).__name__}: {error}")
    return error
