"""Work in flight: what runs ahead so that nothing waits for the next piece, and no more of it than fits in memory."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, wait
from typing import TypeVar

__all__ = ["give_way", "overlap"]

_T = TypeVar("_T")
_NICENESS = 5


def overlap(jobs: Iterable[Callable[[], _T]], pool: Executor, in_flight: int) -> Iterator[Future[_T]]:
    """Yield the future of each job, done, in the jobs' order; ``pool`` runs them.

    At most ``in_flight`` are given to the pool and not yet yielded: a job is taken from ``jobs`` only when there is
    room for it. Where the caller leaves early, those that have not begun are cancelled.
    """
    pending: deque[Future[_T]] = deque()
    try:
        for job in jobs:
            pending.append(pool.submit(job))
            if len(pending) == in_flight:
                yield _done(pending.popleft())
        while pending:
            yield _done(pending.popleft())
    finally:
        for future in pending:
            future.cancel()


def _done(future: Future[_T]) -> Future[_T]:
    wait([future])
    return future


def give_way() -> None:
    """Let other threads of this process go first from now on; threads that this one starts are as modest.

    A network on a CPU waits for the slowest of its threads in every layer: what decodes and encodes beside it is to
    take what it leaves.
    """
    # here alone niceness is a thread's own
    if sys.platform == "linux":
        os.nice(_NICENESS)
