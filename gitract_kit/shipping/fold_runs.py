"""Several folds through the two GPU sessions that Kaggle runs at a time."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from gitract_kit.errors import GitractError, KaggleError, PushError, SessionLimitError
from gitract_kit.shipping.kaggle import InvalidSourcesError, Pushed, packed_kernel, push_kernel
from gitract_kit.shipping.kernel_runs import (
    FAILED_LOOKS,
    POLL_S,
    RUN_LIMIT_S,
    KernelWatch,
    make_output_folder,
    read_kernel_state,
)

__all__ = ["GPU_SESSIONS", "parse_folds", "push_folds"]

GPU_SESSIONS = 2
"""GPU sessions that Kaggle runs at a time for one account."""

Say = Callable[[str], None]


def parse_folds(texts: Sequence[str]) -> list[int]:
    """The folds that the command line names, one by one or as ranges: ``["0..2", "4"]`` is ``[0, 1, 2, 4]``."""
    folds: list[int] = []
    for text in texts:
        match = re.fullmatch(r"(\d+)(?:\.\.(\d+))?", text)
        if not match:
            raise PushError(f"--fold {text}: expected a number, or a range like 0..4")
        first, last = int(match[1]), int(match[2] or match[1])
        folds += range(first, last + 1)
    return folds


def push_folds(
    folder: str | Path,
    folds: Sequence[int],
    *,
    owner: str | None = None,
    resume: bool = False,
    wait: bool = False,
    output: str | Path | None = None,
    poll_s: float = POLL_S,
    limit_s: float = RUN_LIMIT_S,
    say: Say = lambda line: None,
) -> list[Pushed]:
    """Push one kernel a fold, at most two at a time, and return what Kaggle took, in the order of ``folds``.

    With ``resume`` each goes on from its own last output. With ``wait`` the next fold is pushed when a session ends,
    and it returns when all runs are complete; ``output`` collects what they left. Without, more than two folds are a
    `PushError`. All folds are checked before any is pushed, and so is ``output``. A fold whose run fails, or that
    Kaggle took without one of its sources, does not keep the others back: the `KaggleError` at the end names it.
    ``say`` is called with a line at each push and each change.
    """
    kernels = _check_folds(folder, folds, owner, resume, wait)
    push = partial(push_kernel, folder, owner=owner, resume=resume)
    if wait:
        if output is not None:
            make_output_folder(output)
        return _Queue(push, kernels, output, poll_s, limit_s, say).run()
    pushed = []
    for fold in folds:
        pushed.append(push(fold=fold))
        say(f"pushed {pushed[-1]}")
    return pushed


def _check_folds(
    folder: str | Path, folds: Sequence[int], owner: str | None, resume: bool, wait: bool
) -> dict[int, str]:
    """The kernel of each fold, ``owner/slug``."""
    if not folds or len(set(folds)) != len(folds) or min(folds) < 0:
        raise PushError(f"the folds are {list(folds)}, expected different numbers from 0 on")
    if len(folds) > GPU_SESSIONS and not wait:
        raise PushError(
            f"{len(folds)} folds, but {GPU_SESSIONS} GPU sessions at a time: give --wait, which pushes the next fold "
            f"when a session ends, or at most {GPU_SESSIONS} folds"
        )
    kernels = {}
    for fold in folds:
        with packed_kernel(folder, owner=owner, fold=fold, resume=resume) as parcel:
            kernels[fold] = parcel.id
    return kernels


class _Queue:
    """Folds that wait, run and are done."""

    def __init__(
        self,
        push: Callable[..., Pushed],
        kernels: Mapping[int, str],
        output: str | Path | None,
        poll_s: float,
        limit_s: float,
        say: Say,
    ) -> None:
        self.push, self.kernels, self.output = push, kernels, output
        self.poll_s, self.limit_s, self.say = poll_s, limit_s, say
        self.waiting = list(kernels)
        self.running: list[KernelWatch] = []
        self.pushed: list[Pushed] = []
        self.faults: list[str] = []
        self.progress = time.monotonic()
        self.failed_pushes = 0

    def run(self) -> list[Pushed]:
        """Push, look and collect until nothing waits or runs."""
        while self.waiting or self.running:
            self._push_what_fits()
            if self.running or self.waiting:
                time.sleep(self.poll_s)
            self._look_at_what_runs()
        if self.faults:
            raise KaggleError("\n".join(["not all folds came through:", *self.faults]))
        return self.pushed

    def _push_what_fits(self) -> None:
        while self.waiting and self._sessions() < GPU_SESSIONS:
            try:
                self._push(self.waiting[0])
            except SessionLimitError as error:
                # sessions of the account that are not ours, or ours that Kaggle still counts
                self.failed_pushes = 0
                self._try_again(error, time.monotonic() - self.progress <= self.limit_s)
                return
            except (KaggleError, OSError) as error:
                # OSError: no room to pack it here
                self.failed_pushes += 1
                self._try_again(error, self.failed_pushes < FAILED_LOOKS)
                return
            except GitractError as error:
                self._give_up(error)

    def _sessions(self) -> int:
        """Ours on Kaggle: a run that is over and only to be collected again holds none."""
        return sum(not watch.state.over for watch in self.running)

    def _push(self, fold: int) -> None:
        try:
            pushed = self._find_arrived(fold) or self.push(fold=fold)
            self.say(f"pushed {pushed}")
        except InvalidSourcesError as error:
            # its run holds a session and leaves a log like any other
            pushed = error.pushed
            self.faults.append(str(error))
            self.say(str(error))
        self.pushed.append(pushed)
        self.running.append(KernelWatch(pushed.id, output=self.output, limit_s=self.limit_s, say=self.say))
        self.waiting.pop(0)
        self.progress = time.monotonic()
        self.failed_pushes = 0

    def _find_arrived(self, fold: int) -> Pushed | None:
        """A push that failed here and arrived all the same: a second one would train the fold twice."""
        if not self.failed_pushes:
            return None
        try:
            state = read_kernel_state(self.kernels[fold])
        except PushError:  # Kaggle knows no such kernel
            return None
        if state.status not in ("QUEUED", "RUNNING"):
            return None
        note = f"Kaggle gave no answer to the push, but the kernel is {state.status}: taken for pushed"
        return Pushed(state.kernel, f"https://www.kaggle.com/code/{state.kernel}", None, (note,))

    def _try_again(self, error: GitractError | OSError, again: bool) -> None:
        if again:
            self.say(f"{error} (trying again)")
        else:
            self._give_up(error)

    def _give_up(self, error: GitractError | OSError) -> None:
        """Push no more: the next fold would fare the same. What runs already is still waited for."""
        self.faults.append(f"{error} (folds not pushed: {', '.join(map(str, self.waiting))})")
        self.waiting.clear()

    def _look_at_what_runs(self) -> None:
        for watch in list(self.running):
            try:
                ended = watch.finished()
            except GitractError as error:
                self.faults.append(str(error))
                ended = True
            if ended:
                self.running.remove(watch)
                self.progress = time.monotonic()
