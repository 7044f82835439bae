from __future__ import annotations

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from gitract_kit.inference.pipeline import give_way, overlap


def test_futures_come_in_the_jobs_order_whoever_is_done_first():
    second_is_done = threading.Event()

    def slow() -> str:
        assert second_is_done.wait(10)
        return "slow"

    def quick() -> str:
        second_is_done.set()
        return "quick"

    with ThreadPoolExecutor(2) as pool:
        assert [future.result() for future in overlap([slow, quick, quick], pool, 2)] == [
            "slow",
            "quick",
            "quick",
        ]


@pytest.mark.parametrize("in_flight", [1, 2, 3])
def test_a_job_is_taken_only_when_there_is_room(in_flight):
    taken = []

    def jobs():
        for number in range(7):
            taken.append(number)
            yield partial(int, number)

    with ThreadPoolExecutor(4) as pool:
        for yielded, future in enumerate(overlap(jobs(), pool, in_flight)):
            assert future.result() == yielded
            assert len(taken) <= yielded + in_flight


def test_an_error_is_its_jobs_own():
    with ThreadPoolExecutor(2) as pool:
        first, second = overlap([partial(int, "x"), partial(int, "2")], pool, 2)
    assert isinstance(first.exception(), ValueError)
    assert second.result() == 2


def test_what_has_not_begun_is_cancelled_where_the_caller_leaves():
    begun, go_on = [], threading.Event()

    def job(number: int) -> None:
        begun.append(number)
        assert go_on.wait(10)

    with ThreadPoolExecutor(1) as pool:
        futures = overlap([int, *(partial(job, number) for number in range(3))], pool, 3)
        next(futures)
        futures.close()
        go_on.set()
    assert begun in ([], [0])


@pytest.mark.skipif(sys.platform != "linux", reason="niceness is a process's own elsewhere")
def test_threads_that_give_way_leave_the_others_alone():
    before = os.nice(0)
    with ThreadPoolExecutor(1, initializer=give_way) as pool:
        assert pool.submit(os.nice, 0).result() == min(before + 5, 19)
    assert os.nice(0) == before
