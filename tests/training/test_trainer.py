import json
from dataclasses import replace
from hashlib import sha256
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from gitract_kit.data.prepare import load_prepared
from gitract_kit.errors import SettingsError, TrainingError
from gitract_kit.models import create_model
from gitract_kit.settings import settings_from_dict
from gitract_kit.training import train_fold
from gitract_kit.training.schedule import cosine_factor


def same_weights(first, second):
    first, second = load_file(first / "model.safetensors"), load_file(second / "model.safetensors")
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_a_fold_leaves_weights_metrics_curves_overlays_and_oof(run, work):
    folder = run / "fold_0"
    prepared = load_prepared(work)
    held_out = prepared.index[prepared.index["fold"] == 0]

    assert len(pd.read_csv(folder / "metrics.csv")) == 2
    for name in ("curves.png", "overlays/epoch_001.png", "overlays/epoch_002.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    for scan, rows in held_out.groupby("scan"):
        probabilities = np.load(folder / "oof" / f"{scan}.npz")["probabilities"]
        assert probabilities.shape == (len(rows), 3, rows.iloc[0]["height"], rows.iloc[0]["width"])
        assert probabilities.dtype == np.uint8
    assert pd.read_csv(folder / "oof" / "index.csv")["id"].tolist() == held_out["id"].tolist()


def test_the_json_beside_the_weights_rebuilds_the_network(run):
    folder = run / "fold_0"
    about = json.loads((folder / "model.json").read_text())
    settings = settings_from_dict(about["settings"])
    network = create_model(settings.model, in_channels=settings.window.slices, classes=len(settings.organs))

    network.load_state_dict(load_file(folder / "model.safetensors"))

    assert about["sha256"] == sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert about["fold"] == 0
    assert set(about["score"]) == {"total", "dice", "hausdorff"}
    assert about["score"]["total"] == pytest.approx(
        pd.read_csv(folder / "metrics.csv")["score"].max(), abs=1e-4
    )


def test_training_lowers_the_loss(work, small_settings, tmp_path):
    settings = replace(
        small_settings, training=replace(small_settings.training, epochs=12, warmup_epochs=0.5)
    )

    train_fold(work, tmp_path, settings, 0, progress=False)

    losses = pd.read_csv(tmp_path / "fold_0" / "metrics.csv")["train_loss"]
    assert losses.iloc[-1] < 0.7 * losses.iloc[0]


def test_training_twice_gives_the_same_weights_also_with_workers(run, work, small_settings, tmp_path):
    settings = replace(small_settings, training=replace(small_settings.training, workers=2))

    train_fold(work, tmp_path, settings, 0, progress=False)

    assert same_weights(run / "fold_0", tmp_path / "fold_0")


def test_a_resumed_run_ends_as_the_unbroken_one(run, work, small_settings, tmp_path, monkeypatch):
    """The run is broken off by an error in its second epoch; the schedule is that of both epochs."""
    from gitract_kit.training import trainer

    step, calls = trainer._Trainer._step, []

    def failing_step(self, images, masks):
        calls.append(self.epoch)
        if self.epoch == 1 and calls.count(1) == 2:
            raise KeyboardInterrupt
        return step(self, images, masks)

    monkeypatch.setattr(trainer._Trainer, "_step", failing_step)
    with pytest.raises(KeyboardInterrupt):
        train_fold(work, tmp_path, small_settings, 0, progress=False)
    monkeypatch.undo()

    train_fold(work, tmp_path, small_settings, 0, resume=True, progress=False)

    assert same_weights(run / "fold_0", tmp_path / "fold_0")


def test_a_torn_checkpoint_is_passed_over_and_said_so(run, work, small_settings, tmp_path):
    train_fold(work, tmp_path, small_settings, 0, progress=False)
    folder = tmp_path / "fold_0"
    newest = folder / "checkpoint_0002.pt"
    newest.write_bytes(newest.read_bytes()[:5000])

    with pytest.warns(UserWarning, match=r"checkpoint_0002.pt cannot be read"):
        train_fold(work, tmp_path, small_settings, 0, resume=True, progress=False)

    assert same_weights(run / "fold_0", folder)


def test_only_the_last_two_checkpoints_are_kept(work, small_settings, tmp_path):
    settings = replace(small_settings, training=replace(small_settings.training, epochs=4))

    train_fold(work, tmp_path, settings, 0, progress=False)

    assert sorted(path.name for path in (tmp_path / "fold_0").glob("*.pt")) == [
        "checkpoint_0003.pt",
        "checkpoint_0004.pt",
    ]


def test_a_folder_with_a_run_is_not_written_over(run, work, small_settings):
    with pytest.raises(SettingsError, match=r"fold_0 already holds a run; go on with --resume"):
        train_fold(work, run, small_settings, 0, progress=False)


def test_a_fold_that_is_not_there_is_named(work, small_settings, tmp_path):
    with pytest.raises(SettingsError, match=r"there is no fold 7; the prepared folder has folds \[0, 1, 2\]"):
        train_fold(work, tmp_path, small_settings, 7, progress=False)


def test_a_loss_that_is_not_finite_ends_the_run(work, small_settings, tmp_path):
    settings = replace(
        small_settings, training=replace(small_settings.training, learning_rate=1e30, gradient_clip=0.0)
    )

    with pytest.raises(
        TrainingError, match=r"the loss became .* with --resume and a lower training.learning_rate"
    ):
        train_fold(work, tmp_path, settings, 0, progress=False)


def test_the_rate_warms_up_and_falls_along_a_cosine():
    factors = [cosine_factor(step, warmup_steps=10, total_steps=110) for step in range(110)]

    assert factors[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert factors[60] == pytest.approx(0.505, abs=0.01)
    assert factors[-1] == pytest.approx(0.01, abs=0.001)
    assert all(later < earlier for earlier, later in pairwise(factors[10:]))
