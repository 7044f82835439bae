from __future__ import annotations

import filecmp
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from gitract_kit.competition.anatomy import ScanSize
from gitract_kit.competition.layout import ORGANS
from gitract_kit.competition.mr_image import make_scan
from gitract_kit.competition.phantom import REAL_SIZES, PhantomPaths, write_phantom
from gitract_kit.competition.rle import rle_decode
from gitract_kit.errors import DatasetError, InputError, SettingsError

SMALL = (ScanSize(width=72, height=60, spacing_mm=6.0), ScanSize(width=64, height=64, spacing_mm=6.5))
FEW = {"cases": 2, "days": 2, "test_cases": 1, "slices": 12, "sizes": SMALL}


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> PhantomPaths:
    return write_phantom(tmp_path_factory.mktemp("phantom") / "made-up", seed=5, **FEW)


def _files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def _pictures(root: Path, split: str) -> list[Path]:
    return sorted((root / split).glob("case*/case*_day*/scans/slice_*.png"))


def _slice_id(picture: Path) -> str:
    return f"{picture.parts[-3]}_slice_{picture.name.split('_')[1]}"


def test_phantom_lies_in_the_competitions_layout(phantom: PhantomPaths) -> None:
    assert phantom.root.name == "uw-madison-gi-tract-image-segmentation"
    assert (phantom.root / "train/case1/case1_day0/scans/slice_0001_72_60_6.00_6.00.png").is_file()
    assert sorted(path.name for path in phantom.root.iterdir()) == [
        "sample_submission.csv",
        "test",
        "train",
        "train.csv",
    ]
    assert len(_pictures(phantom.root, "train")) == 2 * 2 * 12
    assert len(_pictures(phantom.root, "test")) == (1 + 1) * 12


def test_solution_lies_outside_the_input_tree(phantom: PhantomPaths) -> None:
    assert phantom.solution.is_file()
    assert not phantom.solution.is_relative_to(phantom.root)


def test_pictures_are_16_bit_gray_and_as_large_as_their_names_say(phantom: PhantomPaths) -> None:
    for picture in [*_pictures(phantom.root, "train")[::7], *_pictures(phantom.root, "test")[::5]]:
        image = cv2.imread(str(picture), cv2.IMREAD_UNCHANGED)
        width, height = (int(part) for part in picture.stem.split("_")[2:4])
        assert image.dtype == np.uint16
        assert image.shape == (height, width)


@pytest.mark.parametrize(("split", "table"), [("train", "train.csv"), ("test", "../solution.csv")])
def test_tables_hold_three_rows_a_slice_in_the_organs_order(
    phantom: PhantomPaths, split: str, table: str
) -> None:
    rows = pd.read_csv(phantom.root / table)
    assert list(rows.columns) == ["id", "class", "segmentation"]
    assert tuple(rows["class"]) == ORGANS * (len(rows) // 3)
    assert rows["id"][0::3].is_unique
    assert (rows["id"].to_numpy().reshape(-1, 3) == rows["id"].to_numpy()[::3, None]).all()
    assert set(rows["id"]) == {_slice_id(picture) for picture in _pictures(phantom.root, split)}


def test_sample_submission_holds_every_test_row_in_order_and_no_prediction(phantom: PhantomPaths) -> None:
    sample = pd.read_csv(phantom.root / "sample_submission.csv")
    solution = pd.read_csv(phantom.solution)
    assert list(sample.columns) == ["id", "class", "predicted"]
    assert sample["predicted"].isna().all()
    pd.testing.assert_frame_equal(sample[["id", "class"]], solution[["id", "class"]])


def test_test_set_has_a_size_and_a_case_unseen_in_training_and_a_later_day_of_one(
    phantom: PhantomPaths,
) -> None:
    def sizes(split: str) -> set[str]:
        return {"_".join(picture.stem.split("_")[2:4]) for picture in _pictures(phantom.root, split)}

    def days(split: str, case: str) -> list[int]:
        return sorted(int(folder.name.split("_day")[1]) for folder in (phantom.root / split / case).iterdir())

    assert sizes("test") - sizes("train") == {"64_64"}
    assert {folder.name for folder in (phantom.root / "test").iterdir()} == {"case1", "case201"}
    assert days("test", "case1")[0] > days("train", "case1")[-1]


def test_runs_decode_to_the_masks_that_were_drawn(phantom: PhantomPaths) -> None:
    size = ScanSize(width=72, height=60, spacing_mm=6.0, slices=12)
    scan = make_scan(size, 5, 1, 0)
    rows = pd.read_csv(phantom.root / "train.csv").set_index(["id", "class"])["segmentation"]
    assert scan.masks.any()
    for number, masks in enumerate(scan.masks, start=1):
        for organ, mask in zip(ORGANS, masks, strict=True):
            rle = rows[f"case1_day0_slice_{number:04d}", organ]
            np.testing.assert_array_equal(rle_decode(rle, (60, 72)), mask)


def test_same_seed_writes_the_same_bytes_in_one_process_and_in_two(
    phantom: PhantomPaths, tmp_path: Path
) -> None:
    again = write_phantom(tmp_path / "again", seed=5, workers=2, **FEW)
    first, second = phantom.root.parent, again.root.parent
    assert _files(first) == _files(second)
    _, different, missing = filecmp.cmpfiles(first, second, _files(first), shallow=False)
    assert (different, missing) == ([], [])


def test_a_scan_does_not_depend_on_how_many_were_made_before_it(
    phantom: PhantomPaths, tmp_path: Path
) -> None:
    more = write_phantom(tmp_path / "more", seed=5, **{**FEW, "cases": 3, "days": 1})
    shared = [str(picture.relative_to(phantom.root)) for picture in _pictures(phantom.root, "train")]
    shared = [name for name in shared if "_day0/" in name]
    _, different, missing = filecmp.cmpfiles(phantom.root, more.root, shared, shallow=False)
    assert len(shared) == 2 * 12
    assert (different, missing) == ([], [])


def test_another_seed_writes_other_pictures(phantom: PhantomPaths, tmp_path: Path) -> None:
    other = write_phantom(tmp_path / "other", seed=6, **{**FEW, "cases": 1, "days": 1})
    pictures = [picture.relative_to(other.root) for picture in _pictures(other.root, "train")]
    same = [(other.root / name).read_bytes() == (phantom.root / name).read_bytes() for name in pictures]
    assert len(same) == 12
    assert not any(same)


def test_real_sizes_are_the_competitions_four() -> None:
    names = {(size.width, size.height, size.spacing_mm, size.slices) for size in REAL_SIZES}
    assert names == {(266, 266, 1.5, 144), (360, 310, 1.5, 144), (276, 276, 1.63, 80), (234, 234, 1.5, 144)}


@pytest.mark.parametrize("setting", ["cases", "test_cases", "days", "slices", "workers"])
def test_counts_below_one_are_refused_by_name(setting: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=rf"^{setting} is 0: .*pass a positive number"):
        write_phantom(tmp_path / "out", **{**FEW, setting: 0})
    assert list(tmp_path.iterdir()) == []


def test_negative_seed_and_too_many_cases_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^seed is -1: .*whole number from 0 up"):
        write_phantom(tmp_path / "out", seed=-1)
    with pytest.raises(SettingsError, match=r"^cases is 201: .*ask for at most 200"):
        write_phantom(tmp_path / "out", cases=201)


def test_no_sizes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^sizes is 0"):
        write_phantom(tmp_path / "out", sizes=())


def test_folder_with_something_in_it_is_refused_and_left_alone(tmp_path: Path) -> None:
    kept = tmp_path / "kept.txt"
    kept.write_text("mine")
    with pytest.raises(DatasetError, match=r"not empty.*name another one") as caught:
        write_phantom(tmp_path, **FEW)
    assert isinstance(caught.value, InputError)
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]


def test_empty_folder_is_filled(tmp_path: Path) -> None:
    out = tmp_path / "there"
    out.mkdir()
    paths = write_phantom(out, **{**FEW, "cases": 1, "days": 1, "slices": 2})
    assert paths.solution.is_file()


@pytest.mark.parametrize("fault", [KeyboardInterrupt, OSError])
def test_broken_off_writing_leaves_nothing_that_looks_whole(
    fault: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []

    def write_some(path: Path, content: bytes) -> None:
        if len(written) == 20:
            raise fault
        path.touch()
        written.append(path)

    monkeypatch.setattr(Path, "write_bytes", write_some)
    with pytest.raises(fault):
        write_phantom(tmp_path / "out", workers=1, **FEW)
    assert len(written) == 20
    assert list(tmp_path.iterdir()) == []
