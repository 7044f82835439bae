import json
import os
import shutil

import cv2
import numpy as np
import pytest
from picture_folders import write_folder

from gitract_kit.competition.image_mask import choose_classes
from gitract_kit.competition.layout import UW_MADISON, layout_of
from gitract_kit.data.prepare import adapt_settings, load_prepared, prepare
from gitract_kit.errors import DatasetError
from gitract_kit.settings import Settings, override_settings, settings_from_dict, settings_to_dict


def test_preparing_leaves_an_index_with_folds_and_a_cache(phantom, work):
    prepared = load_prepared(work)

    assert prepared.folds == [0, 1, 2]
    assert prepared.organs == ("large_bowel", "small_bowel", "stomach")
    assert prepared.index.groupby("case")["fold"].nunique().max() == 1
    assert {path.stem for path in prepared.scan_folder.iterdir()} == set(prepared.index["scan"])


def test_an_empty_mask_is_read_back_as_an_empty_string(work):
    organs = load_prepared(work).index[["large_bowel", "small_bowel", "stomach"]]

    assert (organs == "").to_numpy().any()
    assert organs.map(lambda value: isinstance(value, str)).to_numpy().all()


def test_preparing_again_keeps_folds_and_fingerprint(phantom, work, tmp_path):
    shutil.copytree(work, tmp_path / "again")

    again = prepare(phantom.root, tmp_path / "again", n_folds=2, seed=99)

    assert again.folds == [0, 1, 2], "folds that are there are kept"
    assert again.fingerprint == load_prepared(work).fingerprint


def test_other_labels_have_another_fingerprint(phantom, work, tmp_path):
    shutil.copytree(phantom.root, tmp_path / "root")
    table = tmp_path / "root" / "train.csv"
    lines = table.read_text().splitlines()
    changed = next(number for number, line in enumerate(lines) if line.endswith(",")) if lines else 0
    lines[changed] += "1 1"
    table.write_text("\n".join(lines) + "\n")

    assert (
        prepare(tmp_path / "root", tmp_path / "work", n_folds=3).fingerprint
        != load_prepared(work).fingerprint
    )


def test_a_folder_that_was_not_prepared_says_what_to_run(tmp_path):
    with pytest.raises(DatasetError, match=r"holds no prepared.json; make it with `gitract prepare ROOT -o"):
        load_prepared(tmp_path)


def test_a_folder_that_was_prepared_before_masks_could_be_pictures_is_read(work, tmp_path):
    shutil.copytree(work, tmp_path / "older")
    about = json.loads((work / "prepared.json").read_text())
    del about["mask_values"]
    (tmp_path / "older" / "prepared.json").write_text(json.dumps(about))

    assert load_prepared(tmp_path / "older").layout == load_prepared(work).layout == UW_MADISON


def test_a_cached_scan_is_the_decoded_one(phantom, work):
    prepared = load_prepared(work)
    name = prepared.index["scan"].iloc[0]

    volume = np.load(prepared.scan_folder / f"{name}.npy", mmap_mode="r")

    assert volume.shape == (
        (prepared.index["scan"] == name).sum(),
        *prepared.index[["height", "width"]].iloc[0],
    )
    assert volume.max() > 255


def test_preparing_again_after_a_picture_was_changed_shows_its_new_pixels(phantom, tmp_path):
    root, work = shutil.copytree(phantom.root, tmp_path / "root"), tmp_path / "work"
    row = prepare(root, work, n_folds=2).index.iloc[0]
    changed = work / "scans" / f"{row['scan']}.npy"
    before = {path: path.stat().st_ino for path in (work / "scans").glob("*.npy")}
    time = os.stat(row["path"]).st_mtime_ns + 1_000_000_000
    cv2.imwrite(row["path"], np.full((row["height"], row["width"]), 4321, dtype=np.uint16))
    os.utime(row["path"], ns=(time, time))

    prepare(root, work, n_folds=2)

    assert (np.load(changed) == 4321).all(axis=(1, 2)).sum() == 1
    kept = {path for path, inode in before.items() if path.stat().st_ino == inode}
    assert kept == before.keys() - {changed}


def test_what_the_data_decides_stands_in_the_settings_and_comes_back(tmp_path):
    layout = choose_classes(write_folder(tmp_path, values=(85, 170)), ["liver", "spleen"])
    recipe = override_settings(Settings(), ["geometry.spacing_mm=1.5", "prediction.exclusive=false"])
    settings = adapt_settings(recipe, layout)
    assert settings.geometry.spacing_mm is None, "1.5 mm of pixels whose size nobody knows"
    assert settings.prediction.exclusive
    again = settings_from_dict(settings_to_dict(settings))
    assert again == settings
    assert layout_of(again.layout, again.organs, again.mask_values) == layout
    assert adapt_settings(recipe, UW_MADISON) == recipe
