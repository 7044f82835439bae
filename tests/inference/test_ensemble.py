from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
from blob_scans import FixedMember, make_scan

from gitract_kit.errors import SettingsError
from gitract_kit.inference.ensemble import Ensemble


def test_members_of_equal_weight_give_their_mean():
    mean = Ensemble([FixedMember((0.2, 0.4, 0.0)), FixedMember((0.6, 0.4, 1.0))]).predict(make_scan())
    assert mean.dtype == np.float32
    assert mean.shape == (5, 3, 40, 48)
    np.testing.assert_allclose(mean[2, :, 7, 9], [0.4, 0.4, 0.5], atol=1e-3)


def test_weights_are_relative():
    heavy, light = FixedMember((1, 0, 0.5), weight=6.0), FixedMember((0, 1, 0.5), weight=2.0)
    mean = Ensemble([heavy, light]).predict(make_scan())
    np.testing.assert_allclose(mean[0, :, 0, 0], [0.75, 0.25, 0.5], atol=1e-3)


def test_ensembles_nest():
    pair = Ensemble([FixedMember((0, 0, 0)), FixedMember((1, 1, 1))], weight=2.0)
    mean = Ensemble([pair, FixedMember((1, 1, 1))]).predict(make_scan())
    np.testing.assert_allclose(mean, 2 / 3, atol=1e-6)


def test_one_members_output_is_held_at_a_time():
    outputs: list[weakref.ref] = []

    class Watched(FixedMember):
        def predict(self, scan, wanted=None):
            gc.collect()
            assert all(reference() is None for reference in outputs)
            answer = super().predict(scan, wanted)
            outputs.append(weakref.ref(answer))
            return answer

    Ensemble([Watched(), Watched(), Watched()]).predict(make_scan())
    assert len(outputs) == 3


def test_no_members_are_refused():
    with pytest.raises(SettingsError, match="an ensemble of no members"):
        Ensemble([])


def test_members_of_other_organs_are_refused():
    other = FixedMember(name="other", organs=("liver", "kidney", "spleen"))
    with pytest.raises(
        SettingsError, match="member other predicts liver, kidney, spleen, member fixed large_bowel"
    ):
        Ensemble([FixedMember(), other])


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_weights_are_refused(weight):
    with pytest.raises(SettingsError, match=r"member fixed has the weight .*; it must be over 0"):
        Ensemble([FixedMember(weight=weight)])


def test_member_that_answers_at_another_size_is_refused():
    class Cropped(FixedMember):
        def predict(self, scan, wanted=None):
            return super().predict(scan, wanted)[..., 1:]

    with pytest.raises(
        SettingsError, match=r"gave \(5, 3, 40, 47\) for case1_day0, expected \(5, 3, 40, 48\)"
    ):
        Ensemble([Cropped()]).predict(make_scan())
