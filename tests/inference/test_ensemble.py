from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import torch
from blob_scans import FixedMember, SeeThrough, make_scan, see_through_settings

from gitract_kit.errors import SettingsError
from gitract_kit.inference import member as member_module
from gitract_kit.inference.ensemble import Ensemble
from gitract_kit.inference.member import NetworkMember
from gitract_kit.settings import GeometrySettings, WindowSettings


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


class Smooth(SeeThrough):
    """A network of its own opinion, soft enough that averages are not all 0 and 1."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = slope

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        return super().forward(windows) * self.slope


def smooth(slope: float, weight: float = 1.0, tta: str = "hflip", **changes: object) -> NetworkMember:
    settings = see_through_settings(**changes)
    return NetworkMember(Smooth(slope), settings, tta=tta, batch_size=2, name=f"x{slope}", weight=weight)


def weighted_mean(members: list[NetworkMember], scan) -> np.ndarray:
    weights = [member.weight for member in members]
    return np.average([member.predict(scan) for member in members], axis=0, weights=weights)


@pytest.mark.parametrize("size", [32, 64, 192], ids=["shrunk", "slightly-shrunk", "enlarged"])
def test_networks_that_see_the_same_share_an_input_and_give_the_mean_of_their_own(monkeypatch, size):
    made = []

    class Counted(member_module.ScanInputs):
        def planes(self):
            made.append(1)
            return super().planes()

    geometry = GeometrySettings(height=size, width=size)
    members = [smooth(slope, weight, geometry=geometry) for slope, weight in [(0.05, 1), (0.2, 3), (-0.1, 2)]]
    scan = make_scan((61, 75))
    expected = weighted_mean(members, scan)
    monkeypatch.setattr(member_module, "ScanInputs", Counted)
    np.testing.assert_allclose(Ensemble(members).predict(scan), expected, atol=1e-6)
    assert len(made) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"tta": "none"},
        {"window": WindowSettings(slices=5)},
        {"geometry": GeometrySettings(height=96, width=96)},
    ],
    ids=["tta", "window", "geometry"],
)
def test_networks_that_see_something_else_are_averaged_at_the_scans_size(changes):
    members = [smooth(0.05), smooth(0.2, weight=3.0, **changes), smooth(-0.1)]
    scan = make_scan((61, 75))
    np.testing.assert_allclose(Ensemble(members).predict(scan), weighted_mean(members, scan), atol=1e-6)


def test_shared_networks_leave_unwanted_slices_out():
    members = [smooth(0.05), smooth(0.2)]
    scan, wanted = make_scan(), np.array([False, True, True, False, True])
    answer = Ensemble(members).predict(scan, wanted)
    np.testing.assert_allclose(answer[wanted], Ensemble(members).predict(scan)[wanted], atol=1e-6)
    assert not answer[~wanted].any()


def test_out_of_memory_halves_the_batch_of_all_that_share():
    class TooMuch(SeeThrough):
        def forward(self, windows):
            if len(windows) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().forward(windows)

    settings = see_through_settings()
    members = [
        NetworkMember(network, settings, tta="none", batch_size=5) for network in (SeeThrough(), TooMuch())
    ]
    scan = make_scan(slices=7)
    np.testing.assert_allclose(Ensemble(members).predict(scan), members[0].predict(scan), atol=1e-6)
    assert [member.batch_size for member in members] == [2, 2]
