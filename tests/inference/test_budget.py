from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from blob_scans import FixedMember

from gitract_kit.competition.submission import check_submission
from gitract_kit.data.scans import Scan
from gitract_kit.inference.budget import Budget, Level, plan_levels
from gitract_kit.inference.predictor import PredictionSummary, Predictor
from gitract_kit.settings import PredictionSettings

SCANS = {f"case{number}_day0": (40, 48) for number in range(1, 13)}
SLICES = 4


class FakeClock:
    """A clock that only work moves on."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._lock = threading.Lock()

    def __call__(self) -> float:
        return self.now

    def work(self, seconds: float) -> None:
        with self._lock:
            self.now += seconds


@dataclass
class Laborious(FixedMember):
    """A member that takes its time on a fake clock."""

    clock: FakeClock | None = None
    seconds: float = 1.0
    slower_after: float = float("inf")
    passes: int = 2

    def predict(self, scan: Scan, wanted: np.ndarray | None = None) -> np.ndarray:
        slowed = 3 if self.clock.now > self.slower_after else 1
        self.clock.work(self.seconds * self.passes * len(scan.volume) * slowed)
        return super().predict(scan, wanted)

    def without_tta(self) -> Laborious:
        return replace(self, passes=1)


def folds(clock: FakeClock, **options) -> list[Laborious]:
    return [
        Laborious(clock=clock, name=name, group=name[0], **options)
        for name in ("a0", "a1", "a2", "a3", "b0", "b1")
    ]


def predict(root: Path, members: list, clock: Callable[[], float], budget_s: float) -> PredictionSummary:
    # one scan at a time on the fake clock, so that who finishes first is not the machine's to choose
    in_flight = 1 if isinstance(clock, FakeClock) else 2
    predictor = Predictor(members, PredictionSettings(), clock=clock, in_flight=in_flight)
    summary = predictor.predict(root, root.parent / "submission.csv", budget_s=budget_s, progress=False)
    check_submission(summary.output, root / "sample_submission.csv")
    return summary


def test_levels_cost_less_and_less():
    levels = plan_levels(folds(FakeClock()))
    assert [(level.name, len(level.members), level.tta) for level in levels] == [
        ("full", 6, True),
        ("without TTA", 6, False),
        ("half of the folds", 3, False),
        ("one fold of each network", 2, False),
        ("one member", 1, False),
    ]
    assert levels[3].members == (0, 4)


def test_last_level_is_the_group_that_weighs_most():
    light, heavy = FixedMember(group="light"), FixedMember(group="heavy", weight=3.0)
    assert plan_levels([light, heavy])[-1].members == (1,)


def test_gates_lose_folds_too_and_stay_to_the_last():
    members = [
        FixedMember(role=role, group=group)
        for role, group in [
            ("gate", "g"),
            ("gate", "g"),
            ("segment", "a"),
            ("segment", "a"),
            ("segment", "b"),
        ]
    ]
    assert [level.members for level in plan_levels(members)] == [(0, 1, 2, 3, 4), (0, 2, 4), (0, 2)]


def test_levels_that_would_do_the_same_are_one():
    assert [level.name for level in plan_levels([FixedMember()])] == ["full"]
    assert [level.name for level in plan_levels([FixedMember(passes=2)])] == ["full", "without TTA"]
    pair = [FixedMember(name="a"), FixedMember(name="b")]
    assert [level.name for level in plan_levels(pair)] == ["full", "half of the folds"]


# all 12 scans in full are 576 s, without TTA 288, one member 48; trying the members out takes 30
@pytest.mark.parametrize(
    ("budget_s", "first"),
    [
        (10_000, "full"),
        (550, "without TTA"),
        (300, "half of the folds"),
        (190, "one fold of each network"),
        (120, "one member"),
    ],
)
def test_plan_fits_the_budget_from_the_first_scan(make_root, budget_s, first):
    clock = FakeClock()
    start = clock.now
    summary = predict(make_root(SCANS), folds(clock), clock, budget_s)
    assert clock.now - start <= budget_s
    assert summary.scans[0].done == first
    assert not any(scan.done.startswith("empty") for scan in summary.scans)


def test_what_does_not_fit_at_all_keeps_empty_rows(make_root):
    clock = FakeClock()
    start = clock.now
    summary = predict(make_root(SCANS), folds(clock), clock, 60)
    assert clock.now - start <= 60
    done = [scan.done for scan in summary.scans]
    assert done[0] == "one member"
    assert done[-1] == "empty rows: no time left"


def test_rate_is_learned_and_the_plan_follows(make_root):
    clock = FakeClock()
    start = clock.now
    slowing = folds(clock, slower_after=start + 150)
    summary = predict(make_root(SCANS), slowing, clock, 1000)
    assert clock.now - start <= 1000
    done = [scan.done for scan in summary.scans]
    assert done[0] == "full"
    assert done[-1] != "full"
    assert not any(one.startswith("empty") for one in done)


def test_pessimism_of_the_first_scan_is_unlearned(make_root):
    # 30 s of trials and 576 in full leave no room for the first guess, which is half as much again
    clock = FakeClock()
    summary = predict(make_root(SCANS), folds(clock), clock, 720)
    assert summary.scans[0].done == "without TTA"
    assert summary.scans[-1].done == "full"


def test_record_says_what_was_done_to_which_scan(make_root, capsys):
    clock = FakeClock()
    summary = predict(make_root(SCANS), folds(clock), clock, 60)
    record = json.loads(summary.record.read_text())
    assert record["budget_s"] == 60
    assert record["levels"][0]["name"] == "full"
    assert record["levels"][0]["seconds_a_slice"] == pytest.approx(12)
    assert [scan["scan"] for scan in record["scans"]] == list(SCANS)
    assert record["scans"][-1]["done"] == "empty rows: no time left"
    said = capsys.readouterr().err
    assert "from case1_day0 on: one member" in said
    assert "on: empty rows: no time left" in said


def test_without_a_budget_everything_is_full(make_root):
    clock = FakeClock()
    summary = predict(make_root(SCANS), folds(clock, slower_after=0), clock, None)
    assert {scan.done for scan in summary.scans} == {"full"}


def test_failed_scans_teach_nothing():
    clock = FakeClock()
    budget = Budget(1000, [Level("full", (0,), True, cost_s=1.0)], clock, clock.now)
    level = budget.choose(100, 500)
    clock.work(0.001)
    budget.finish(level, 100, failed=True)
    # at the first guess of 1.5, 700 slices do not fit; a rate of 0 would let them
    assert budget.choose(650, 650) is None


def test_of_several_devices_one_may_finish_late():
    clock = FakeClock()
    levels = [Level("full", (0,), True, cost_s=1.0)]
    # 100 slices are 150 s at the first guess, on two devices 75; on one of those two scans may be left to the end
    for devices, enough in [(1, 165), (2, 242)]:
        for budget_s, fits in [(enough, True), (enough - 10, False)]:
            budget = Budget(budget_s, levels, clock, clock.now, devices)
            assert (budget.choose(100, 100) is not None) is fits


@dataclass
class Sleepy(FixedMember):
    """A member that really takes its time."""

    passes: int = 2

    def predict(self, scan: Scan, wanted: np.ndarray | None = None) -> np.ndarray:
        time.sleep(0.005 * self.passes * len(scan.volume))
        return super().predict(scan, wanted)

    def without_tta(self) -> Sleepy:
        return replace(self, passes=1)


@pytest.mark.parametrize("budget_s", [0.05, 0.4, 1.0])
def test_real_tiny_budget_is_kept(make_root, budget_s):
    root = make_root({f"case{number}_day0": (40, 48) for number in range(1, 31)})
    members = [Sleepy(name=f"fold_{fold}", group="net") for fold in range(3)]
    start = time.monotonic()
    summary = predict(root, members, time.monotonic, budget_s)
    # full takes 3.6 s of sleep, and trying the members out 0.08
    assert time.monotonic() - start < budget_s + 0.6
    assert any(scan.done != "full" for scan in summary.scans)
