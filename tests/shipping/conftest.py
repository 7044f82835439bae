"""The stand-in for Kaggle, which the tests of this folder push to."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from kaggle_server import KaggleServer, client_environment, refuse_other_addresses

from gitract_kit.shipping import kaggle_client


@pytest.fixture
def kaggle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KaggleServer]:
    """A running stand-in; the real client, pointed at it and refused any other address, has a HOME of its own."""
    # found and not imported: importing the client signs in
    if find_spec("kaggle") is None:
        pytest.skip("the official client is not here: pip install 'gitract-kit[kaggle]'")
    with KaggleServer() as server:
        for name, value in client_environment(server, tmp_path / "home").items():
            if value is None:
                monkeypatch.delenv(name, raising=False)
            else:
                monkeypatch.setenv(name, value)
        environment = kaggle_client._environment

        def guarded() -> dict[str, str]:
            refuse_other_addresses(environment(), server)
            assert os.environ["GITRACT_TESTS_LOOPBACK"] == "1", "mark the test with @pytest.mark.loopback"
            return environment()

        monkeypatch.setattr(kaggle_client, "_environment", guarded)
        yield server
