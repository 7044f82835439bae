"""Predictors for a run of two processes: what the other one makes must be found in a module."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from blob_scans import FixedMember

from gitract_kit.data.scans import Scan
from gitract_kit.errors import BundleError, ScanError
from gitract_kit.inference.predictor import Predictor
from gitract_kit.settings import PredictionSettings

LENIENT = PredictionSettings(tta="none", min_component_px=0, max_failed_share=0.5)


def is_other() -> bool:
    return multiprocessing.parent_process() is not None


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError("the other process did nothing for a minute")
        time.sleep(0.02)


@dataclass
class Patient(FixedMember):
    """Answers by the scan's brightness; in the process that was asked only once the other has had a scan."""

    seen: Path = Path()
    fault: str = ""

    def predict(self, scan: Scan, wanted: np.ndarray | None = None) -> np.ndarray:
        if not is_other():
            wait_until(self.seen.exists)
        else:
            with self.seen.open("a") as file:
                file.write(f"{os.getpid()} {scan.name}\n")
            self._fail()
        bright = (scan.volume > 30000)[:, None]
        return np.repeat(bright, len(self.organs), axis=1).astype(np.float16)

    def _fail(self) -> None:
        scans = len(self.seen.read_text().splitlines())
        if self.fault == "breaks" and scans > 1:
            raise RuntimeError("CUDA error: an illegal memory access")
        if "raises" in self.fault and scans == 1:
            raise ScanError("slice_0002.png: torn")
        if "dies" in self.fault:
            os._exit(7)
        if self.fault == "sleeps":
            time.sleep(60)


@dataclass
class Waiting(FixedMember):
    """Answers once no other process is left."""

    def predict(self, scan: Scan, wanted: np.ndarray | None = None) -> np.ndarray:
        wait_until(lambda: not multiprocessing.active_children())
        return super().predict(scan, wanted)


@dataclass
class Broken(FixedMember):
    """Answers like `Patient`, but in the process that was asked each scan fails; everywhere, that of one case does."""

    case: str = ""

    def predict(self, scan: Scan, wanted: np.ndarray | None = None) -> np.ndarray:
        if not is_other() or scan.name.startswith(f"{self.case}_"):
            raise RuntimeError(f"CUDA error in {scan.name}")
        return super().predict(scan, wanted)


def create_broken(case: str = "") -> Predictor:
    return Predictor([Broken(case=case)], LENIENT)


def create(seen: Path, fault: str = "") -> Predictor:
    return Predictor([Patient(seen=seen, fault=fault)], LENIENT)


def create_none() -> Predictor:
    raise BundleError("fold_0.safetensors: its sha256 is another")
