"""Real tables, where the folder of real data is there."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import settings

# a deadline measures how busy the machine is, and a red run must be red again
settings.register_profile("kit", deadline=None, derandomize=True)
settings.load_profile("kit")


@pytest.fixture(scope="session")
def real_labels(shared_data: Path) -> pd.DataFrame:
    """Eleven whole scans of the competition's train.csv: id, class, segmentation ("" = empty)."""
    return pd.read_csv(shared_data / "labels" / "train.csv", keep_default_na=False)


@pytest.fixture(scope="session")
def real_sizes(shared_data: Path) -> pd.DataFrame:
    """Every training slice: id, height, width, from the file names, which hold the width first."""
    inventory = pd.read_csv(shared_data / "inventory.csv.gz")
    sides = inventory.path.str.extract(r"/slice_\d+_(?P<width>\d+)_(?P<height>\d+)_").astype(int)
    return pd.concat([inventory.id, sides.height, sides.width], axis=1)
