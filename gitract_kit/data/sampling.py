"""Which slices an epoch draws."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gitract_kit.errors import SettingsError
from gitract_kit.settings import TrainingSettings

__all__ = ["EpochDraws", "draw_samples", "select_samples"]


class EpochDraws:
    """A loader's sampler: the draws of epoch ``epoch``, which the trainer counts up.

    ``holds_organ`` (n,) bool says which samples have an organ, ``scans`` (n,) which scan each one belongs to.
    """

    def __init__(self, holds_organ: np.ndarray, settings: TrainingSettings, scans: np.ndarray) -> None:
        self.epoch = 0
        self._numbers = select_samples(holds_organ, scans, settings.slices)
        self._holds_organ, self._settings = holds_organ[self._numbers], settings

    def __len__(self) -> int:
        return self._settings.samples_per_epoch or len(self._numbers)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        draws = draw_samples(
            self._holds_organ,
            seed=self._settings.seed,
            epoch=self.epoch,
            count=len(self),
            empty_share=self._settings.empty_share,
        )
        return ((int(self._numbers[number]), seed) for number, seed in draws)


def select_samples(holds_organ: np.ndarray, scans: np.ndarray, which: str) -> np.ndarray:
    """Return the ascending numbers of the samples that ``training.slices`` calls ``which``.

    ``all`` are all; ``labelled`` those with an organ; ``no-tail`` all but the ones after the last of their scan with an
    organ, where the drawing may have stopped rather than the organs: of a scan without any, none. The samples of a
    scan follow one another in order of their slices.
    """
    if which == "all":
        return np.arange(len(holds_organ))
    if not holds_organ.any():
        raise SettingsError(
            f"training.slices is {which!r}, but none of the {len(holds_organ)} training slices holds an organ; "
            "set it to all, or look at the labels"
        )
    labelled = np.flatnonzero(holds_organ)
    if which == "labelled":
        return labelled
    last = {scans[number]: number for number in labelled}
    return np.array([number for number, scan in enumerate(scans) if number <= last.get(scan, -1)])


def draw_samples(
    holds_organ: np.ndarray, *, seed: int, epoch: int, count: int | None, empty_share: float | None
) -> list[tuple[int, int]]:
    """Return the (sample number, augmentation seed) pairs of one epoch, in training order.

    ``holds_organ`` (n,) bool says which samples have an organ. Without ``empty_share`` they are drawn evenly, else this
    share of them comes from the empty ones. No sample repeats before all of its kind were drawn. The result depends
    on the arguments alone, so that a resumed run draws what the unbroken one would have.
    """
    rng = np.random.default_rng([seed, epoch])
    count = count or len(holds_organ)
    if empty_share is None or holds_organ.all() or not holds_organ.any():
        numbers = _draw(rng, np.arange(len(holds_organ)), count)
    else:
        empty = round(count * empty_share)
        numbers = np.concatenate(
            [
                _draw(rng, np.flatnonzero(holds_organ), count - empty),
                _draw(rng, np.flatnonzero(~holds_organ), empty),
            ]
        )
        rng.shuffle(numbers)
    seeds = rng.integers(0, 2**31, len(numbers))
    return list(zip(numbers.tolist(), seeds.tolist(), strict=True))


def _draw(rng: np.random.Generator, numbers: np.ndarray, count: int) -> np.ndarray:
    rounds = -(-count // len(numbers))
    return np.concatenate([rng.permutation(numbers) for _ in range(rounds)] or [numbers[:0]])[:count]
