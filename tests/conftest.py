"""What every test runs under: no network, no display, and the real sample where it is there."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

REPOSITORY = Path(__file__).resolve().parents[1]
OFFLINE = Path(__file__).resolve().parent / "offline"

# the second for what tests of several rooms share
sys.path[:0] = [str(OFFLINE), str(Path(__file__).resolve().parent)]
from refused_sockets import LOOPBACK_VARIABLE, refuse_sockets  # noqa: E402

# set before anything imports matplotlib, albumentations or huggingface_hub, and inherited by child processes
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(OFFLINE), os.environ.get("PYTHONPATH")]))
os.environ["MPLBACKEND"] = "Agg"
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.pop(LOOPBACK_VARIABLE, None)
refuse_sockets()

# after the guard, so that they import without a network too; the rooms that need torch are reached through
# the package's lazy names, so that a test of the competition's own language does not wait for torch
import gitract_kit  # noqa: E402
from gitract_kit.competition.anatomy import ScanSize  # noqa: E402
from gitract_kit.competition.phantom import PhantomPaths, write_phantom  # noqa: E402
from gitract_kit.data.prepare import prepare  # noqa: E402
from gitract_kit.settings import Settings, load_preset, override_settings  # noqa: E402

# the same examples on every machine, however busy it is
settings.register_profile("suite", deadline=None, derandomize=True)
settings.load_profile("suite")


@pytest.fixture(autouse=True)
def _loopback_where_marked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.node.get_closest_marker("loopback"):
        monkeypatch.setenv(LOOPBACK_VARIABLE, "1")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the checkout; tests that need it are skipped where it is missing."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the folder shared/data is not beside the checkout: nothing real to test on")
    return folder


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> PhantomPaths:
    """A made-up competition of a few thick slices: three training cases, two test scans of two sizes."""
    sizes = (ScanSize(60, 60, 6.0, 9), ScanSize(90, 78, 6.0, 7))
    return write_phantom(
        tmp_path_factory.mktemp("phantom") / "made-up", seed=3, cases=3, test_cases=1, days=1, sizes=sizes
    )


@pytest.fixture(scope="session")
def work(phantom: PhantomPaths, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The phantom, prepared in three folds."""
    folder = tmp_path_factory.mktemp("work")
    prepare(phantom.root, folder, n_folds=3)
    return folder


@pytest.fixture(scope="session")
def small_settings() -> Settings:
    """A network and a recipe that two cores train in seconds."""
    return override_settings(
        load_preset("tiny"),
        [
            "window.slices=3",
            "geometry={height: 64, width: 64}",
            "model.encoder_depth=3",
            "model.decoder_channels=[16, 8, 8]",
            "training={epochs: 2, batch_size: 4, workers: 0, ema_decay: 0.5, learning_rate: 0.003}",
        ],
    )


@pytest.fixture(scope="session")
def run(work: Path, small_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with folds 0 and 1, trained for two epochs."""
    folder = tmp_path_factory.mktemp("run")
    for fold in (0, 1):
        gitract_kit.train_fold(work, folder, small_settings, fold, progress=False)
    return folder


@pytest.fixture(scope="session")
def bundle(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of that run."""
    return gitract_kit.create_bundle(run, tmp_path_factory.mktemp("bundle") / "small")
