"""Seconds to index a full-size competition folder, beside the way public notebooks do it.

    python benchmarks/index.py INVENTORY

INVENTORY is a CSV (or .csv.gz) with a column ``path`` of the slices under a competition root, such as
``train/case123/case123_day20/scans/slice_0065_266_266_1.50_1.50.png``. A tree of empty files and a
train.csv of made-up rows are made of it in a temporary folder; both ways index that, turn by turn.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import pandas as pd

from gitract_kit.competition.index import build_index
from gitract_kit.competition.layout import ORGANS

TURNS = 3
RLE = " ".join(f"{266 * row + 100} 40" for row in range(90, 160))  # as long as a real mask's, near enough


def write_tree(inventory: Path, root: Path) -> None:
    """Make the files of the inventory, empty, and a train.csv in which three slices of ten are labelled."""
    paths = pd.read_csv(inventory)["path"]
    for folder in sorted({str(Path(path).parent) for path in paths}):
        (root / folder).mkdir(parents=True)
    rows = []
    for number, path in enumerate(paths):
        (root / path).touch()
        parts = Path(path).parts
        slice_id = f"{parts[-3]}_{'_'.join(parts[-1].split('_')[:2])}"
        rows += [(slice_id, organ, RLE if number % 10 < 3 else "") for organ in ORGANS]
    pd.DataFrame(rows, columns=["id", "class", "segmentation"]).to_csv(root / "train.csv", index=False)


def index_as_notebooks_do(root: Path) -> pd.DataFrame:
    """A recursive glob, text cut out of each path and id row by row, and a merge."""
    rows = pd.read_csv(root / "train.csv")
    rows["segmentation"] = rows["segmentation"].astype(object).fillna("")
    rows["case"] = rows["id"].apply(lambda text: int(text.split("_")[0].replace("case", "")))
    rows["day"] = rows["id"].apply(lambda text: int(text.split("_")[1].replace("day", "")))
    rows["slice"] = rows["id"].apply(lambda text: text.split("_")[-1])
    files = pd.DataFrame({"path": [str(path) for path in root.glob("train/**/*.png")]})
    files["case"] = files["path"].apply(lambda path: int(path.split("/")[-4].replace("case", "")))
    files["day"] = files["path"].apply(lambda path: int(path.split("/")[-3].split("_")[1].replace("day", "")))
    files["slice"] = files["path"].apply(lambda path: path.split("/")[-1].split("_")[1])
    files["width"] = files["path"].apply(lambda path: int(path[:-4].split("_")[-4]))
    files["height"] = files["path"].apply(lambda path: int(path[:-4].split("_")[-3]))
    rows = rows.merge(files, on=["case", "day", "slice"], how="left")
    wide = rows.drop_duplicates("id").drop(columns=["class", "segmentation"])
    for organ in ORGANS:
        wide[organ] = rows[rows["class"] == organ]["segmentation"].to_list()
    return wide.sort_values(["case", "day", "slice"])


WAYS = {
    "build_index, everything checked": build_index,
    "build_index, PNG headers not read": lambda root: build_index(root, check_headers=False),
    "glob, apply and merge, nothing checked": index_as_notebooks_do,
}


def seconds(work, root: Path) -> float:
    start = time.perf_counter()
    work(root)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("inventory", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_tree(arguments.inventory, root)
        ours, theirs = build_index(root), index_as_notebooks_do(root)
        # side by side means the same answer
        for column in ("id", "path", "width", "height", *ORGANS):
            if ours[column].tolist() != theirs[column].tolist():
                raise SystemExit(f"the two indexes differ in {column}")
        turns = [[seconds(work, root) for work in WAYS.values()] for _ in range(TURNS)]
    medians = [statistics.median(column) for column in zip(*turns, strict=True)]
    print(f"| {len(ours):,} slices, {len(ours) * len(ORGANS):,} rows | seconds (median of {TURNS}) | ratio |")
    print("| --- | ---: | ---: |")
    for name, median in zip(WAYS, medians, strict=True):
        print(f"| {name} | {median:.2f} | {median / medians[0]:.2f} |")


if __name__ == "__main__":
    main()
