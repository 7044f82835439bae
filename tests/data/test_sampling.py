import numpy as np
import pytest

from gitract_kit.data.sampling import EpochDraws, draw_samples, select_samples
from gitract_kit.errors import SettingsError
from gitract_kit.settings import TrainingSettings

HOLDS = np.array([True] * 30 + [False] * 70)


def numbers(**changes):
    arguments = {"seed": 1, "epoch": 0, "count": None, "empty_share": None, **changes}
    return np.array([number for number, _ in draw_samples(HOLDS, **arguments)])


def test_an_epoch_draws_every_sample_once():
    assert sorted(numbers().tolist()) == list(range(100))


def test_epochs_and_seeds_draw_differently_and_repeatably():
    assert numbers().tolist() == numbers().tolist()
    assert numbers().tolist() != numbers(epoch=1).tolist()
    assert numbers().tolist() != numbers(seed=2).tolist()


def test_the_share_of_empty_slices_is_kept():
    drawn = numbers(count=50, empty_share=0.2)

    assert (~HOLDS[drawn]).sum() == 10
    assert (~HOLDS[drawn][:25]).any(), "the kinds are mixed"


def test_nothing_repeats_before_all_were_drawn():
    drawn = numbers(count=100, empty_share=0.1)
    labelled = drawn[HOLDS[drawn]]

    assert len(labelled) == 90
    assert np.bincount(labelled, minlength=30)[:30].tolist() == [3] * 30


def test_a_set_without_empty_slices_draws_what_there_is():
    drawn = draw_samples(np.ones(5, dtype=bool), seed=0, epoch=0, count=5, empty_share=0.5)

    assert sorted(number for number, _ in drawn) == [0, 1, 2, 3, 4]


def test_every_draw_has_a_seed_of_its_own():
    seeds = [seed for _, seed in draw_samples(HOLDS, seed=1, epoch=0, count=None, empty_share=None)]

    assert len(set(seeds)) == len(seeds)


# two scans of eight slices with organs in the middle, and one of four without any
SCANS = np.array(["a"] * 8 + ["b"] * 8 + ["c"] * 4)
DRAWN = np.array([0, 0, 1, 1, 0, 1, 0, 0, *[0, 0, 0, 1, 1, 1, 1, 1], *[0] * 4], dtype=bool)


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        ("all", list(range(20))),
        ("labelled", [2, 3, 5, 11, 12, 13, 14, 15]),
        ("no-tail", [0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15]),
    ],
)
def test_slices_are_selected_scan_by_scan(which, expected):
    assert select_samples(DRAWN, SCANS, which).tolist() == expected


def test_an_epoch_draws_the_selected_samples_alone():
    draws = EpochDraws(DRAWN, TrainingSettings(slices="no-tail"), SCANS)

    numbers = [number for number, _ in draws]

    assert len(draws) == 14
    assert sorted(numbers) == select_samples(DRAWN, SCANS, "no-tail").tolist()


def test_the_share_of_empty_slices_is_of_the_selected_ones():
    settings = TrainingSettings(slices="no-tail", samples_per_epoch=10, empty_share=0.3)

    numbers = [number for number, _ in EpochDraws(DRAWN, settings, SCANS)]

    assert (~DRAWN[numbers]).sum() == 3
    assert set(numbers) <= set(select_samples(DRAWN, SCANS, "no-tail").tolist())


def test_a_set_without_labels_cannot_be_narrowed_to_them():
    with pytest.raises(SettingsError, match="'labelled', but none of the 20 training slices holds an organ"):
        EpochDraws(np.zeros(20, dtype=bool), TrainingSettings(slices="labelled"), SCANS)
