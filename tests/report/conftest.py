"""What the tests of this folder share: a run folder whose probabilities are made from the truth, not by a network."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from gitract_kit.inference.evaluate import evaluate_runs
from gitract_kit.report.compare import compare_runs
from gitract_kit.report.html import write_report
from gitract_kit.settings import Settings, override_settings

sys.path.insert(0, str(Path(__file__).parent))
from made_runs import write_run


@pytest.fixture(scope="session")
def made_run(work: Path, small_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("made") / "a <b> & c", work, small_settings)


@pytest.fixture(scope="session")
def rival(work: Path, small_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of another network on the same folds, farther off."""
    settings = override_settings(small_settings, ["model.architecture=fpn", "training.epochs=5"])
    return write_run(tmp_path_factory.mktemp("made") / "rival|<i>", work, settings, moved=5)


@pytest.fixture(scope="session")
def evaluated(made_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That run, with the settings that were found for it."""
    folder = shutil.copytree(made_run, tmp_path_factory.mktemp("evaluated") / "run")
    evaluate_runs([folder])
    return folder


@pytest.fixture(scope="session")
def evaluated_page(evaluated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(evaluated, tmp_path_factory.mktemp("page") / "report.html")


@pytest.fixture(scope="session")
def compared(made_run: Path, rival: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a comparison."""
    folder = tmp_path_factory.mktemp("compared")
    compare_runs([made_run, rival], folder, slices=3)
    return folder


@pytest.fixture(scope="session")
def page(made_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(made_run, tmp_path_factory.mktemp("page") / "report.html")
