"""What every test runs under: no network, no display, and the real sample where it is there."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

REPOSITORY = Path(__file__).resolve().parents[1]
OFFLINE = Path(__file__).resolve().parent / "offline"

sys.path.insert(0, str(OFFLINE))
from refused_sockets import LOOPBACK_VARIABLE, refuse_sockets  # noqa: E402

# set before anything imports matplotlib, albumentations or huggingface_hub, and inherited by child processes
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(OFFLINE), os.environ.get("PYTHONPATH")]))
os.environ["MPLBACKEND"] = "Agg"
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.pop(LOOPBACK_VARIABLE, None)
refuse_sockets()

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
