"""Scans side by side, so that the network does not wait for decoding, resampling and encoding."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

__all__ = ["overlap"]

_T = TypeVar("_T")


def overlap(jobs: Iterable[Callable[[], _T]], in_flight: int) -> Iterator[Future[_T]]:
    """Yield the future of each job, done, in the jobs' order; at most ``in_flight`` are begun and not yet yielded.

    Each job is a whole scan in a thread of its own. Members let one thread at a time into the network, so while one
    scan computes, the others decode, resample and encode. A job is taken from ``jobs`` only when there is room for it.
    """
    pending: deque[Future[_T]] = deque()
    pool = ThreadPoolExecutor(in_flight, thread_name_prefix="scan")
    try:
        for job in jobs:
            pending.append(pool.submit(job))
            if len(pending) == in_flight:
                yield _done(pending.popleft())
        while pending:
            yield _done(pending.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def _done(future: Future[_T]) -> Future[_T]:
    wait([future])
    return future
