"""What the tests of this folder share: `blob_scans`, and a competition folder made of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from blob_scans import write_sample, write_scan


@pytest.fixture
def make_root(tmp_path: Path) -> Callable[..., Path]:
    """A competition folder with these test scans, {name: shape}, and their sample."""

    def make(scans: dict[str, tuple[int, int]] | None = None) -> Path:
        root = tmp_path / "root"
        root.mkdir()
        scans = {"case7_day3": (40, 48), "case12_day0": (52, 44)} if scans is None else scans
        ids = [
            slice_id
            for name, shape in scans.items()
            for slice_id in write_scan(root / "test", name, shape=shape)
        ]
        write_sample(root, ids)
        return root

    return make
