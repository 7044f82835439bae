from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from other_processes import LENIENT, Broken, Patient, Waiting, create, create_broken, create_none, wait_until

from gitract_kit.competition.submission import check_submission, read_submission
from gitract_kit.errors import PredictionError
from gitract_kit.inference.devices import Devices
from gitract_kit.inference.predictor import PredictionSummary, Predictor

SCANS = {f"case{number}_day0": (40, 48) for number in range(1, 11)}


def predict(root: Path, predictor: Predictor, *, rerun: bool = False) -> PredictionSummary:
    summary = predictor.predict(root, root.parent / "submission.csv", rerun=rerun, progress=False)
    check_submission(summary.output, root / "sample_submission.csv")
    assert not multiprocessing.active_children()
    return summary


def of_two(root: Path, fault: str = "") -> Predictor:
    seen = root.parent / "seen"
    return Predictor([Patient(seen=seen)], LENIENT, elsewhere=[("cuda:1", partial(create, seen, fault))])


def scans_of_the_other(root: Path) -> list[str]:
    return [line.split()[1] for line in (root.parent / "seen").read_text().splitlines()]


def scans_without_masks(root: Path) -> set[str]:
    table = read_submission(root.parent / "submission.csv")
    drawn = table.groupby(table.id.str.partition("_slice_")[0]).predicted.apply(lambda column: any(column))
    return set(drawn.index[~drawn])


def test_two_processes_write_the_bytes_that_one_writes(make_root):
    root = make_root(SCANS)
    summary = predict(root, of_two(root))
    written = summary.output.read_bytes()
    assert scans_of_the_other(root)
    assert len(scans_of_the_other(root)) < len(SCANS)
    assert [scan.scan for scan in summary.scans] == list(SCANS)
    assert json.loads(summary.record.read_text())["further_devices"] == ["cuda:1"]
    assert predict(root, create(root.parent / "seen")).output.read_bytes() == written
    assert not scans_without_masks(root)


DEATH = "the process of cuda:1 died with exit code 7"


def test_process_that_dies_stops_the_run(make_root):
    root = make_root(SCANS)
    with pytest.raises(PredictionError, match=DEATH):
        predict(root, of_two(root, "dies"))
    assert not multiprocessing.active_children()


def test_faults_of_another_process_cost_the_rerun_the_scans_it_had(make_root):
    root = make_root(SCANS)
    summary = predict(root, of_two(root, "raises, then dies"), rerun=True)
    lost = {fault.scan: fault.error for fault in summary.faults if fault.lost}
    assert set(scans_of_the_other(root)) <= set(lost) == scans_without_masks(root)
    assert list(lost.values()).count("ScanError") == 1
    assert 1 <= list(lost.values()).count("PredictionError") <= 2
    messages = [fault.message for fault in summary.faults]
    assert all("slice_0002.png: torn" in message or DEATH in message for message in messages)


def test_device_that_cannot_be_used_costs_no_scan(make_root):
    root = make_root(SCANS)
    predictor = Predictor([Waiting()], LENIENT, elsewhere=[("cuda:1", create_none)])
    summary = predict(root, predictor, rerun=True)
    assert [(fault.scan, fault.error, fault.lost) for fault in summary.faults] == [("", "BundleError", False)]
    assert "its sha256 is another" in summary.faults[0].message
    assert not scans_without_masks(root)


def test_broken_device_costs_no_scan_while_another_is_sound(make_root):
    root = make_root(SCANS)
    predictor = Predictor([Broken()], LENIENT, elsewhere=[("cuda:1", create_broken)])
    summary = predict(root, predictor, rerun=True)
    assert not scans_without_masks(root)
    assert {(fault.error, fault.lost) for fault in summary.faults} == {("PredictionError", False)}
    messages = [fault.message for fault in summary.faults]
    told = "the first device failed at case1_day0, which another device then predicted (RuntimeError: CUDA"
    assert any(told in message for message in messages)
    # two, and what was begun before the second one was done elsewhere
    assert 2 <= len(messages) <= 6
    assert ["no more scans while there is another" in message for message in messages].count(True) == 1


def test_other_device_that_breaks_costs_no_scan(make_root):
    root = make_root(SCANS)
    summary = predict(root, of_two(root, "breaks"), rerun=True)
    assert not scans_without_masks(root)
    assert {fault.lost for fault in summary.faults} == {False}
    assert all(fault.message.startswith("cuda:1 failed at case") for fault in summary.faults)
    assert len(scans_of_the_other(root)) < len(SCANS)


def test_broken_device_stops_a_run_that_is_watched(make_root):
    root = make_root(SCANS)
    predictor = Predictor([Broken()], LENIENT, elsewhere=[("cuda:1", create_broken)])
    with pytest.raises(PredictionError, match=r"the first device failed at case\d_day0"):
        predict(root, predictor)


def test_scan_that_no_device_can_predict_is_held_against_none(make_root):
    root = make_root(SCANS)
    poisoned = Predictor(
        [Broken(case="case3")], LENIENT, elsewhere=[("cuda:1", partial(create_broken, "case3"))]
    )
    summary = predict(root, poisoned, rerun=True)
    assert [(fault.scan, fault.error) for fault in summary.faults if fault.lost] == [
        ("case3_day0", "RuntimeError")
    ]
    assert scans_without_masks(root) == {"case3_day0"}


def test_process_that_dies_while_it_has_no_scan_is_told_of():
    devices = Devices(create_broken(), [("cuda:1", create_broken)])
    with devices:
        wait_until(lambda: len(devices._room) == 2)
        multiprocessing.active_children()[0].kill()
        wait_until(lambda: len(devices._room) == 1)
        (error,) = devices.take_errors()
    assert "the process of cuda:1 died with exit code -9" in str(error)


def test_one_scan_needs_no_other_process(make_root):
    root = make_root({"case1_day0": (40, 48)})
    predictor = Predictor([Waiting()], LENIENT, elsewhere=[("cuda:1", create_none)])
    assert predict(root, predictor).faults == ()


TWO = """
import sys
sys.path[:0] = {folders!r}
from functools import partial
from pathlib import Path
from other_processes import LENIENT, Patient, Predictor, create

if __name__ == "__main__":
    seen = Path({seen!r})
    elsewhere = [("cuda:1", partial(create, seen, "sleeps"))]
    Predictor([Patient(seen=seen)], LENIENT, elsewhere=elsewhere).predict({root!r}, {output!r}, progress=False)
"""


def test_sigterm_ends_the_other_process_too(make_root):
    root = make_root(SCANS)
    seen, script = root.parent / "seen", root.parent / "two.py"
    folders = [str(Path(__file__).parents[1])]
    output = str(root.parent / "submission.csv")
    script.write_text(TWO.format(folders=folders, seen=str(seen), root=str(root), output=output))
    with subprocess.Popen([sys.executable, str(script)]) as process:
        wait_until(lambda: seen.exists() and seen.read_text().endswith("\n"))
        other = int(seen.read_text().split()[0])
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(other, 0)
    check_submission(output, root / "sample_submission.csv")
