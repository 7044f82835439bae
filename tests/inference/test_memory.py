from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from blob_scans import write_sample, write_scan

PREDICT = """
import resource, sys
sys.path.insert(0, {tests!r})
from blob_scans import see_through
from gitract_kit.inference.predictor import Predictor
from gitract_kit.settings import PredictionSettings

Predictor([see_through(batch_size=8)], PredictionSettings()).predict({root!r}, {output!r}, progress=False)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak_mb(root: Path, scans: int) -> float:
    """Peak memory of a process that predicts ``scans`` scans of about 25 MB each while they are in it."""
    ids = []
    for case in range(1, scans + 1):
        ids += write_scan(root / "test", f"case{case}_day0", slices=range(1, 9), shape=(266, 266))
    write_sample(root, ids)
    code = PREDICT.format(
        tests=str(Path(__file__).parents[1]), root=str(root), output=str(root / "submission.csv")
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(done.stdout) / 1e3


@pytest.mark.slow
def test_peak_memory_does_not_grow_with_the_number_of_scans(tmp_path):
    few, many = (peak_mb(tmp_path / str(scans), scans) for scans in (4, 40))
    assert many < 1.05 * few
