import os
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from gitract_kit.data.scans import (
    cache_scans,
    decode_scan,
    decode_slice,
    intensity_range,
    load_cached_scan,
)
from gitract_kit.errors import ScanError
from gitract_kit.settings import IntensitySettings


def write_png(path, image):
    assert cv2.imwrite(str(path), image)
    return path


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 2**16, (12, 20), dtype=np.uint16)


@pytest.fixture
def index(tmp_path):
    """A scan of three slices, listed out of order."""
    rows = []
    for number in (3, 1, 2):
        path = write_png(tmp_path / f"{number}.png", np.full((4, 6), number * 1000, dtype=np.uint16))
        rows.append(
            {"id": f"case1_day2_slice_{number:04d}", "scan": "case1_day2", "slice": number, "path": str(path)}
        )
    return pd.DataFrame(rows).assign(width=6, height=4, spacing_x_mm=1.5, spacing_y_mm=1.63)


def test_a_16_bit_slice_comes_as_it_is(tmp_path, image):
    decoded = decode_slice(write_png(tmp_path / "a.png", image), (12, 20))

    assert decoded.dtype == np.uint16
    np.testing.assert_array_equal(decoded, image)


def test_an_8_bit_slice_is_widened_so_that_white_stays_white(tmp_path):
    narrow = np.array([[0, 1, 255]], dtype=np.uint8)

    assert decode_slice(write_png(tmp_path / "a.png", narrow), (1, 3)).tolist() == [[0, 257, 65535]]


def test_a_colour_slice_becomes_gray(tmp_path):
    gray = np.full((5, 5, 3), 100, dtype=np.uint8)

    assert decode_slice(write_png(tmp_path / "a.png", gray), (5, 5)).tolist() == [[25700] * 5] * 5


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ScanError, match=r"gone\.png: cannot be read"):
        decode_slice(tmp_path / "gone.png", (1, 1))


@pytest.mark.parametrize("kept", [0, 7, 60, -5])
def test_a_torn_file_is_named(tmp_path, image, kept):
    path = write_png(tmp_path / "torn.png", image)
    path.write_bytes(path.read_bytes()[:kept])

    with pytest.raises(ScanError, match=r"torn\.png: not a whole image"):
        decode_slice(path, (12, 20))


def test_other_bytes_are_no_image(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"<xml>" * 100)

    with pytest.raises(ScanError, match="not a whole image"):
        decode_slice(path, (1, 1))


def test_a_size_other_than_the_names_is_an_error(tmp_path, image):
    path = write_png(tmp_path / "a.png", image)

    with pytest.raises(ScanError, match="holds 20 x 12 pixels, its name says 12 x 20"):
        decode_slice(path, (20, 12))


def test_a_scan_is_stacked_by_slice_number(index):
    scan = decode_scan(index)

    assert scan.name == "case1_day2"
    assert scan.volume[:, 0, 0].tolist() == [1000, 2000, 3000]
    assert scan.slice_numbers.tolist() == [1, 2, 3]
    assert scan.ids[0] == "case1_day2_slice_0001"
    assert scan.spacing_mm == (1.63, 1.5)


def test_a_cached_scan_is_mapped_and_equal(index, tmp_path):
    assert list(cache_scans(index, tmp_path / "cache")) == ["case1_day2"]

    scan = load_cached_scan(index, tmp_path / "cache")

    assert isinstance(scan.volume, np.memmap)
    np.testing.assert_array_equal(scan.volume, decode_scan(index).volume)


def test_a_cached_scan_is_not_decoded_again(index, tmp_path):
    list(cache_scans(index, tmp_path / "cache"))
    before = states_of(tmp_path / "cache")

    assert list(cache_scans(index, tmp_path / "cache")) == ["case1_day2"]

    assert states_of(tmp_path / "cache") == before


def states_of(folder):
    """A file that is written anew is another one."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.iterdir()}


def replace_slice(path, value):
    """Other pixels under the same name, in as many bytes, some time later."""
    size, time = path.stat().st_size, path.stat().st_mtime_ns
    write_png(path, np.full((4, 6), value, dtype=np.uint16))
    assert path.stat().st_size == size
    os.utime(path, ns=(time, time + 1_000_000_000))


def test_a_scan_whose_pictures_were_changed_is_decoded_again(index, tmp_path):
    list(cache_scans(index, tmp_path / "cache"))
    replace_slice(tmp_path / "2.png", 2001)

    list(cache_scans(index, tmp_path / "cache"))

    scan = load_cached_scan(index, tmp_path / "cache")
    assert scan.volume[:, 0, 0].tolist() == [1000, 2001, 3000]
    before = states_of(tmp_path / "cache")
    list(cache_scans(index, tmp_path / "cache"))
    assert states_of(tmp_path / "cache") == before


@pytest.mark.parametrize("record", [None, "", "[]", '{"sources": 3}', '{"sources": [["1.png", 7'])
def test_a_cached_scan_without_a_record_of_its_pictures_is_decoded_again(index, tmp_path, record):
    cache = tmp_path / "cache"
    list(cache_scans(index, cache))
    np.save(cache / "case1_day2.npy", np.zeros((3, 4, 6), dtype=np.uint16))
    (cache / "case1_day2.json").unlink(missing_ok=True)
    if record is not None:
        (cache / "case1_day2.json").write_text(record)

    list(cache_scans(index, cache))

    assert load_cached_scan(index, cache).volume[:, 0, 0].tolist() == [1000, 2000, 3000]


def test_data_mounted_elsewhere_are_the_same_data(index, tmp_path):
    list(cache_scans(index, tmp_path / "cache"))
    before = states_of(tmp_path / "cache")
    (tmp_path / "elsewhere").mkdir()
    for number in (1, 2, 3):
        (tmp_path / f"{number}.png").rename(tmp_path / "elsewhere" / f"{number}.png")
    moved = index.assign(path=[str(tmp_path / "elsewhere" / Path(path).name) for path in index["path"]])

    list(cache_scans(moved, tmp_path / "cache"))

    assert states_of(tmp_path / "cache") == before


def test_a_cache_that_is_not_brought_to_its_end_has_no_record(index, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    list(cache_scans(index, cache))
    replace_slice(tmp_path / "2.png", 2001)

    def killed(*_, **__):
        raise KeyboardInterrupt

    # at the very last moment: the new pixels are in place
    monkeypatch.setattr(Path, "write_text", killed)
    with pytest.raises(KeyboardInterrupt):
        list(cache_scans(index, cache))

    assert [path.name for path in cache.iterdir()] == ["case1_day2.npy"]


def test_a_picture_that_is_gone_is_named_whatever_the_cache(index, tmp_path):
    list(cache_scans(index, tmp_path / "cache"))
    (tmp_path / "1.png").unlink()

    with pytest.raises(ScanError, match=r"1\.png: cannot be read .*; restore the file"):
        list(cache_scans(index, tmp_path / "cache"))


def test_a_scan_that_fails_leaves_no_cache_file(index, tmp_path):
    (tmp_path / "2.png").write_bytes(b"")

    with pytest.raises(ScanError, match=r"2\.png"):
        list(cache_scans(index, tmp_path / "cache"))

    assert not list((tmp_path / "cache").iterdir())


def test_a_cache_of_another_shape_is_refused(index, tmp_path):
    list(cache_scans(index, tmp_path))

    with pytest.raises(ScanError, match=r"delete the file and run `gitract prepare` again"):
        load_cached_scan(index.iloc[:2], tmp_path)


def test_a_missing_cache_file_says_what_to_run(index, tmp_path):
    with pytest.raises(ScanError, match="run `gitract prepare` again"):
        load_cached_scan(index, tmp_path / "nowhere")


def test_intensity_range_is_that_of_the_percentiles():
    volume = np.random.default_rng(0).permutation(10000).astype(np.uint16).reshape(1, 100, 100)

    low, high = intensity_range(volume, IntensitySettings(10, 90))

    assert low == pytest.approx(1000, abs=400)
    assert high == pytest.approx(9000, abs=400)


def test_a_flat_volume_has_a_range_too():
    low, high = intensity_range(np.zeros((2, 8, 8), dtype=np.uint16), IntensitySettings())

    assert (low, high) == (0.0, 1.0)
