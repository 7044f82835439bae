from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from blob_scans import FixedMember, make_scan, see_through

from gitract_kit.data.postprocess import open_slices
from gitract_kit.errors import SettingsError
from gitract_kit.inference.predictor import Predictor
from gitract_kit.settings import PredictionSettings

PLAIN = PredictionSettings(min_component_px=0)


def counts(*pixels: int) -> np.ndarray:
    """(z, 1, 10, 10) probabilities with that many pixels at 0.8 a slice, the rest at 0.1."""
    probabilities = np.full((len(pixels), 1, 100), 0.1, dtype=np.float32)
    for plane, count in zip(probabilities[:, 0], pixels, strict=True):
        plane[:count] = 0.8
    return probabilities.reshape(-1, 1, 10, 10)


def opened(probabilities: np.ndarray, threshold: float, min_px: int, smoothing: int = 1) -> list[bool]:
    return open_slices(probabilities, (threshold,), (min_px,), smoothing)[:, 0].tolist()


def test_slice_is_open_from_the_pixel_count_on():
    assert opened(counts(0, 4, 5, 6), 0.5, 5) == [False, False, True, True]


def test_pixels_count_from_the_threshold_on():
    assert opened(counts(9), 0.8, 9) == [True]
    assert opened(counts(9), 0.9, 1) == [False]


def test_smoothing_closes_a_lone_slice_and_opens_a_gap():
    assert opened(counts(0, 0, 9, 0, 0), 0.5, 5, smoothing=3) == [False] * 5
    assert opened(counts(9, 9, 0, 9, 9), 0.5, 6, smoothing=3) == [True] * 5


def test_smoothing_stays_in_the_scan():
    # past the ends the outermost slices count: (6 + 6 + 0) / 3 and (0 + 0 + 6) / 3
    assert opened(counts(6, 0, 0), 0.5, 4, smoothing=3) == [True, False, False]
    assert opened(counts(6, 0, 0), 0.5, 2, smoothing=3) == [True, True, False]


def test_organs_have_gates_of_their_own():
    probabilities = np.concatenate([counts(3, 8), counts(8, 3)], axis=1)
    assert open_slices(probabilities, (0.5, 0.5), (5, 2)).tolist() == [[False, True], [True, True]]


@dataclass
class SliceGate(FixedMember):
    """A gate that opens the organs by slice."""

    role: str = "gate"
    group: str = "gate"
    opens: tuple[tuple[float, ...], ...] = ((0, 0, 0), (1, 0, 1), (1, 1, 0), (0, 0, 0), (0, 0, 0))

    def predict(self, scan, wanted=None):
        answer = super().predict(scan, wanted)
        answer[:] = np.asarray(self.opens)[:, :, None, None]
        return answer


@dataclass
class Watched(FixedMember):
    asked: list[np.ndarray] = field(default_factory=list)

    def predict(self, scan, wanted=None):
        self.asked.append(wanted)
        return super().predict(scan, wanted)


def test_masks_stay_only_where_the_gate_is_open():
    ungated = Predictor([see_through()], PLAIN).predict_scan(make_scan())
    gated = Predictor([SliceGate(), see_through()], PLAIN).predict_scan(make_scan())
    assert gated.any(axis=(2, 3)).tolist() == [
        [False, False, False],
        [True, False, True],
        [True, True, False],
        [False, False, False],
        [False, False, False],
    ]
    is_open = gated.any(axis=(2, 3))
    np.testing.assert_array_equal(gated[is_open], ungated[is_open])


def test_segmenters_are_asked_for_open_slices_alone():
    segmenter = Watched()
    Predictor([SliceGate(), segmenter], PLAIN).predict_scan(make_scan())
    assert segmenter.asked[0].tolist() == [False, True, True, False, False]


def test_gates_average_by_their_own_weights():
    shut = SliceGate(opens=((0, 0, 0),) * 5, weight=1.0)
    wide = SliceGate(opens=((1, 1, 1),) * 5, weight=2.0)
    member = FixedMember((0.9, 0.9, 0.9), weight=100.0)
    assert Predictor([shut, wide, member], PLAIN).predict_scan(make_scan()).all()
    settings = PredictionSettings(min_component_px=0, gate_threshold=0.7)
    assert not Predictor([shut, wide, member], settings).predict_scan(make_scan()).any()


def test_gate_alone_is_refused():
    with pytest.raises(
        SettingsError, match="no member of the role 'segment' was given; a gate alone draws nothing"
    ):
        Predictor([SliceGate()], PLAIN)
