"""What a run may go on from: its own data, and settings that its state still fits."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pandas as pd
import pytest

from gitract_kit.data.prepare import prepare
from gitract_kit.errors import SettingsError
from gitract_kit.settings import load_preset, override_settings, settings_to_dict
from gitract_kit.training import train_fold
from gitract_kit.training.resuming import check_may_go_on

BEGAN = override_settings(load_preset("tiny"), ["training.epochs=4"])


def check(*changes: str, began=BEGAN, epoch: int = 2) -> None:
    state = {"settings": settings_to_dict(began), "data_fingerprint": "f", "epoch": epoch}
    check_may_go_on(state, override_settings(began, changes), "f")


@pytest.mark.parametrize(
    "change",
    [
        "training.swa_epochs=1",
        "training.optimizer=sgd",
        "training.schedule=plateau",
        "training.loss={bce: 1}",
        "training.weight_decay=0.5",
        "model.decoder_channels=[64, 32, 16, 8]",
        "window.slices=3",
        "geometry.height=64",
        "augmentation.hflip=0.5",
    ],
)
def test_a_setting_that_the_state_does_not_fit_is_refused_by_name(change):
    with pytest.raises(SettingsError, match=rf"the run began with {change.partition('=')[0]}="):
        check(change)


@pytest.mark.parametrize(
    "change",
    [
        "training.epochs=9",
        "training.learning_rate=1e-5",
        "training.workers=0",
        "training.precision=fp16",
        "training.compile=true",
        "training.batch_size=8",
        "training.accumulate=2",
        "prediction.tta=flips",
        "model.encoder_weights=imagenet",
    ],
)
def test_what_the_state_does_not_hold_may_change(change):
    check(change)


def test_a_schedule_or_average_laid_out_over_the_run_keeps_its_length():
    for change, epoch in (("training.schedule=one-cycle", 2), ("training.swa_epochs=2", 3)):
        began = override_settings(BEGAN, [change])
        with pytest.raises(SettingsError, match=r"the run began with training.epochs=4, and 6 would not"):
            check("training.epochs=6", began=began, epoch=epoch)
    # before the first epoch that is averaged
    check("training.epochs=6", began=override_settings(BEGAN, ["training.swa_epochs=2"]), epoch=2)


def test_other_folds_are_refused_before_a_slice_that_was_learnt_from_is_held_out(
    phantom, run, small_settings, tmp_path
):
    other = prepare(phantom.root, tmp_path / "work", n_folds=2)
    shutil.copytree(run / "fold_0", tmp_path / "fold_0")
    assert other.fingerprint
    with pytest.raises(SettingsError, match=r"other data, labels or folds than those the run began with"):
        train_fold(tmp_path / "work", tmp_path, small_settings, 0, resume=True, progress=False)


def test_a_run_goes_on_in_half_precision(work, run, small_settings, tmp_path):
    shutil.copytree(run / "fold_0", tmp_path / "fold_0")
    longer = replace(small_settings.training, epochs=3, precision="fp16", samples_per_epoch=None)
    train_fold(work, tmp_path, replace(small_settings, training=longer), 0, resume=True, progress=False)
    assert len(pd.read_csv(tmp_path / "fold_0" / "metrics.csv")) == 3
