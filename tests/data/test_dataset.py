import gc
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

from gitract_kit.competition.rle import rle_decode
from gitract_kit.data.dataset import SliceDataset
from gitract_kit.data.prepare import load_prepared


@pytest.fixture(scope="module")
def prepared(work):
    return load_prepared(work)


def create(prepared, settings, **options):
    return SliceDataset(prepared.index, prepared.scan_folder, settings, **{"augment": False, **options})


def test_a_sample_is_a_window_and_its_masks(prepared, small_settings):
    dataset = create(prepared, small_settings)

    image, mask = dataset[(4, 0)]

    assert len(dataset) == len(prepared.index)
    assert (image.shape, mask.shape) == ((3, 64, 64), (3, 64, 64))
    assert (image.dtype, mask.dtype) == (np.float32, np.float32)
    assert 0 <= image.min() < image.max() <= 1


def test_neighbours_never_come_from_another_scan(prepared, small_settings):
    dataset = create(prepared, small_settings)
    depth = int((prepared.index["scan"] == dataset.scan_names[0]).sum())

    last, _ = dataset[(depth - 1, 0)]
    first, _ = dataset[(depth, 0)]

    np.testing.assert_array_equal(last[1], last[2])
    np.testing.assert_array_equal(first[0], first[1])


def test_the_mask_is_that_of_the_middle_slice(prepared, small_settings):
    dataset = create(prepared, small_settings)
    number = int(np.flatnonzero(dataset.holds_organ())[0])
    row = prepared.index.iloc[number]
    drawn = sum(rle_decode(row[organ], (row["height"], row["width"])).sum() for organ in prepared.organs)

    _, mask = dataset[(number, 0)]
    geometry = dataset.inputs(row["scan"]).geometry
    scale = geometry.scaled[0] * geometry.scaled[1] / (geometry.source[0] * geometry.source[1])

    assert mask.sum() == pytest.approx(drawn * scale, rel=0.02)


def test_augmentation_follows_the_seed_alone(prepared, small_settings):
    dataset, other = (create(prepared, small_settings, augment=True) for _ in range(2))
    dataset[(0, 1)]

    first, again, different = dataset[(4, 7)], other[(4, 7)], other[(4, 8)]

    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert not np.array_equal(first[0], different[0])


def test_augmentation_moves_image_and_mask_alike(prepared, small_settings):
    """The organ's own pixels are painted bright: wherever they go, the mask must go too."""
    dataset = create(prepared, small_settings, augment=True)
    augmentation = dataset._augmentation
    mask = np.zeros((64, 64, 1), dtype=np.float32)
    mask[20:40, 10:30] = 1
    agreement = []
    for seed in range(40):
        augmentation.set_random_seed(seed)
        changed = augmentation(image=np.repeat(mask, 3, axis=2), mask=mask)
        bright, moved = changed["image"][..., 0] > 0.45, changed["mask"][..., 0] > 0.5
        agreement.append((bright & moved).sum() / max(1, (bright | moved).sum()))

    # what differs is where rectangles were blanked and where brightness shifts the half-way line
    assert np.median(agreement) > 0.95


def test_a_dataset_travels_to_a_worker_without_its_scans(prepared, small_settings):
    dataset = create(prepared, small_settings)
    before = len(pickle.dumps(dataset))
    expected, _ = dataset[(3, 0)]

    travelled = pickle.loads(pickle.dumps(dataset))

    assert len(pickle.dumps(dataset)) == before
    np.testing.assert_array_equal(travelled[(3, 0)][0], expected)


@pytest.mark.skipif(sys.platform != "linux", reason="what is mapped is read from /proc")
def test_few_files_stay_open_however_many_scans_there_are(prepared, small_settings, monkeypatch):
    unbounded = create(prepared, small_settings)
    expected = [unbounded[number, 0][0] for number in range(len(unbounded))]
    del unbounded
    monkeypatch.setattr("gitract_kit.data.dataset._MOST_MAPPED", 2)
    dataset = create(prepared, small_settings)
    before = mapped_scans(prepared)

    found = [dataset[number, 0][0] for number in range(len(dataset))]

    assert len(dataset.scan_names) > 2
    np.testing.assert_array_equal(found, expected)
    assert 1 <= len(mapped_scans(prepared) - before) <= 2


def mapped_scans(prepared) -> set[str]:
    """The cached scans that this process has mapped."""
    gc.collect()
    lines = Path("/proc/self/maps").read_text().splitlines()
    return {line for line in lines if str(prepared.scan_folder) in line}
