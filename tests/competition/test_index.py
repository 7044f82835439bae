from __future__ import annotations

import csv
import gzip
import os
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from gitract_kit.competition.index import build_index
from gitract_kit.competition.layout import ORGANS, UW_MADISON
from gitract_kit.errors import DatasetError, SettingsError

COLUMNS = [
    *("id", "case", "day", "scan", "slice", "path", "width", "height"),
    *("spacing_x_mm", "spacing_y_mm", "bad_scan"),
]
SCANS = {
    "case9_day27": (6, 4, "1.50_1.50"),  # on the host's list of bad labels
    "case10_day2": (5, 5, "1.63_1.63"),
    "case10_day11": (3, 7, "1.50_1.63"),
}


def write_slice(root: Path, split: str, scan: str, name: str, width: int, height: int) -> Path:
    folder = root / split / scan.split("_")[0] / scan / "scans"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(cv2.imencode(".png", np.zeros((height, width), np.uint16))[1].tobytes())
    return path


def write_labels(root: Path, ids: list[str]) -> None:
    rows = [
        [slice_id, organ, f"{i + 1} 2" if organ == "stomach" else ""]
        for i, slice_id in enumerate(ids)
        for organ in ORGANS
    ]
    pd.DataFrame(rows, columns=["id", "class", "segmentation"]).to_csv(root / "train.csv", index=False)


@pytest.fixture
def root(tmp_path):
    ids = []
    for split in ("train", "test"):
        for scan, (width, height, spacing) in SCANS.items():
            for number in (2, 10, 1):
                write_slice(
                    tmp_path, split, scan, f"slice_{number:04d}_{width}_{height}_{spacing}.png", width, height
                )
                ids.append(f"{scan}_slice_{number:04d}")
    write_labels(tmp_path, ids[: len(ids) // 2])
    return tmp_path


def rename(path: Path, name: str) -> Path:
    return path.rename(path.with_name(name))


def first_slice(root: Path, split: str = "test") -> Path:
    return root / split / "case9" / "case9_day27" / "scans" / "slice_0001_6_4_1.50_1.50.png"


def test_an_index_has_one_row_a_slice_in_natural_order(root):
    index = build_index(root)
    assert list(index.columns) == [*COLUMNS, *ORGANS]
    assert index["id"].tolist() == [
        f"{scan}_slice_{number:04d}"
        for scan in ("case9_day27", "case10_day2", "case10_day11")
        for number in (1, 2, 10)
    ]


def test_a_row_says_where_and_how_big_a_slice_is(root):
    row = build_index(root, "test").iloc[8].to_dict()
    assert row == {
        "id": "case10_day11_slice_0010",
        "case": "case10",
        "day": 11,
        "scan": "case10_day11",
        "slice": 10,
        "path": str(root / "test/case10/case10_day11/scans/slice_0010_3_7_1.50_1.63.png"),
        "width": 3,
        "height": 7,
        "spacing_x_mm": 1.5,
        "spacing_y_mm": 1.63,
        "bad_scan": False,
    }


def test_labels_stand_in_the_row_of_their_slice(root):
    labels = pd.read_csv(root / "train.csv", keep_default_na=False)
    stomach = labels[labels["class"] == "stomach"].set_index("id")["segmentation"]
    index = build_index(root)
    assert index["stomach"].tolist() == stomach.loc[index["id"]].tolist()
    assert set(index["large_bowel"]) == {""}


def test_scans_the_host_calls_bad_are_flagged(root):
    index = build_index(root)
    assert set(index.loc[index["bad_scan"], "scan"]) == {"case9_day27"}


def test_numbers_are_numbers_and_names_are_text(root):
    index = build_index(root, "test")
    assert {
        name: index[name].dtype.kind for name in ("day", "slice", "width", "spacing_x_mm", "bad_scan")
    } == {
        "day": "i",
        "slice": "i",
        "width": "i",
        "spacing_x_mm": "f",
        "bad_scan": "b",
    }
    assert all(
        type(cell) is str for cell in index[["id", "case", "scan", "path"]].to_numpy(dtype=object).ravel()
    )


def test_a_test_folder_needs_no_table(root):
    (root / "train.csv").unlink()
    assert list(build_index(root, "test").columns) == COLUMNS


def test_dot_files_are_passed_over(root):
    expected = build_index(root)
    for folder in ("train", "train/case9", "train/case9/case9_day27", "train/case9/case9_day27/scans"):
        (root / folder / ".DS_Store").write_bytes(b"")
    pd.testing.assert_frame_equal(build_index(root), expected)


def test_a_file_without_a_whole_header_is_left_to_decoding(root):
    first_slice(root).write_bytes(b"")
    (root / "test/case9/case9_day27/scans/slice_0002_6_4_1.50_1.50.png").write_bytes(b"not a picture" * 9)
    assert len(build_index(root, "test")) == 9


def test_a_size_that_disagrees_with_the_png_is_named(root):
    path = write_slice(root, "test", "case9_day27", "slice_0001_6_4_1.50_1.50.png", width=4, height=6)
    with pytest.raises(DatasetError, match=r"is 4 wide and 6 high, but its name says 6 and 4") as caught:
        build_index(root, "test")
    assert str(path) in str(caught.value)
    assert len(build_index(root, "test", check_headers=False)) == 9


@pytest.mark.parametrize(
    "name",
    ["slice_0001.png", "notes.txt", "slice_0001_6_4_1.50_1.50 (copy).png", "slice_1_6_4_1.50_1.50.png"],
)
def test_a_file_name_outside_the_layout_is_named(root, name):
    path = rename(first_slice(root), name)
    with pytest.raises(DatasetError, match=r"is not a slice's file.*rename it") as caught:
        build_index(root, "test")
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("folder", "name", "message"),
    [
        ("case9", "patient9", "is not a case's name"),
        ("case9/case9_day27", "case9", "is not a scan's name"),
        ("case9/case9_day27", "case8_day27", "in the wrong place: expected it in case8/"),
        ("case9/case9_day27/scans", "slices", "holds slices: expected one folder, scans/"),
    ],
)
def test_a_folder_name_outside_the_layout_is_named(root, folder, name, message):
    rename(root / "test" / folder, name)
    with pytest.raises(DatasetError, match=message) as caught:
        build_index(root, "test")
    assert str((root / "test" / folder).with_name(name).parent) in str(caught.value)


def test_a_missing_scans_folder_is_named(root):
    for path in first_slice(root).parent.iterdir():
        path.unlink()
    with pytest.raises(DatasetError, match=r"case9_day27/scans is empty: expected the slices of case9_day27"):
        build_index(root, "test")
    first_slice(root).parent.rmdir()
    with pytest.raises(DatasetError, match=r"case9_day27 holds nothing: expected one folder, scans/"):
        build_index(root, "test")


def test_a_file_where_a_folder_belongs_is_named(root):
    (root / "test" / "case11").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"case11 cannot be listed.*expected a folder"):
        build_index(root, "test")


def test_a_folder_where_a_file_belongs_is_named(root):
    (first_slice(root).parent / "slice_0003_6_4_1.50_1.50.png").mkdir()
    with pytest.raises(DatasetError, match=r"slice_0003_6_4_1.50_1.50.png cannot be read"):
        build_index(root, "test")


def test_a_slice_number_twice_in_a_scan_names_both_files(root):
    write_slice(root, "test", "case9_day27", "slice_0002_7_4_1.50_1.50.png", width=7, height=4)
    with pytest.raises(DatasetError, match=r"slice_0002_6_4_.*slice_0002_7_4_.*are both slice 2"):
        build_index(root, "test")


@pytest.mark.parametrize("other", ["7_4_1.50_1.50", "6_4_1.50_1.63"])
def test_sizes_that_differ_within_a_scan_name_both_files(root, other):
    write_slice(root, "test", "case9_day27", f"slice_0011_{other}.png", width=7, height=4)
    with pytest.raises(
        DatasetError, match=rf"slice_0001_6_4_1.50_1.50.png and .*slice_0011_{other}.png differ"
    ):
        build_index(root, "test")


def test_an_id_without_a_file_is_named(root):
    first_slice(root, "train").unlink()
    with pytest.raises(
        DatasetError, match=r"train\.csv: ids without a file .*: 1; the first is case9_day27_slice_0001"
    ):
        build_index(root)


def test_a_file_without_rows_is_named(root):
    path = write_slice(root, "train", "case9_day27", "slice_0003_6_4_1.50_1.50.png", width=6, height=4)
    with pytest.raises(DatasetError, match=r"files without rows in .*train\.csv: 1; the first is") as caught:
        build_index(root)
    assert str(path) in str(caught.value)


def test_a_missing_root_says_what_to_give(tmp_path):
    with pytest.raises(DatasetError, match=r"nowhere is not a folder: give the folder that holds train\.csv"):
        build_index(tmp_path / "nowhere")


def test_a_missing_train_folder_says_what_is_there(root):
    with pytest.raises(
        DatasetError, match=r"has no train; it holds case10, case9: give the folder that holds"
    ):
        build_index(root / "test")


def test_a_missing_table_says_what_is_there(root):
    rename(root / "train.csv", "labels.csv")
    with pytest.raises(DatasetError, match=r"has no train\.csv; it holds labels\.csv, test, train"):
        build_index(root)


@pytest.mark.parametrize("empty", [True, False])
def test_an_absent_or_empty_test_folder_says_that_it_is_full_in_the_rerun(tmp_path, empty):
    if empty:
        (tmp_path / "test").mkdir()
    with pytest.raises(DatasetError, match=r"test.*the hidden rerun's is full.*gitract phantom"):
        build_index(tmp_path, "test")


def test_an_unknown_split_is_refused(root):
    with pytest.raises(SettingsError, match="'valid', expected one of train, test"):
        build_index(root, "valid")


def test_faults_leave_out_their_scan_and_no_other(root):
    rename(first_slice(root), "junk.png")
    rename(root / "test/case10/case10_day2/scans", "slices")
    (root / "test" / "stray.txt").write_bytes(b"")
    faults = []
    index = build_index(root, "test", faults=faults)
    assert index["scan"].unique().tolist() == ["case10_day11"]
    assert [
        name in str(fault)
        for fault, name in zip(faults, ("stray.txt", "case10_day2", "junk.png"), strict=True)
    ]


def test_a_real_sample_is_indexed(shared_data):
    index = build_index(shared_data / "sample")
    assert (len(index), index["scan"].nunique(), index["case"].nunique()) == (324, 24, 14)
    test = build_index(shared_data / "sample", "test")
    assert set(zip(test["width"], test["height"], strict=True)) == {
        (234, 234),
        (266, 266),
        (276, 276),
        (360, 310),
    }
    assert set(test.loc[test["width"] == 276, "spacing_x_mm"]) == {1.63}


def test_a_tree_of_full_size_is_indexed_whole(shared_data, tmp_path):
    with gzip.open(shared_data / "inventory.csv.gz", "rt", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for folder in {os.path.dirname(row["path"]) for row in rows}:
        (tmp_path / folder).mkdir(parents=True)
    for row in rows:
        (tmp_path / row["path"]).touch()
    write_labels(tmp_path, [row["id"] for row in rows])
    index = build_index(tmp_path)
    assert (len(index), index["scan"].nunique(), index["case"].nunique()) == (38_496, 274, 85)
    assert set(index["id"]) == {row["id"] for row in rows}
    assert set(index.loc[index["bad_scan"], "scan"]) == set(UW_MADISON.bad_scans) & set(index["scan"])
    order = list(zip(index["case"].str[4:].astype(int), index["day"], index["slice"], strict=True))
    assert order == sorted(order)
    relative = index.set_index("id")["path"].str.removeprefix(f"{tmp_path}{os.sep}")
    assert relative.to_dict() == {row["id"]: row["path"] for row in rows}
