import json
import shutil
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
from gitract_kit.training import train_fold, validation
from gitract_kit.training.endings import clear_ending
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


def test_a_checkpoint_altered_on_the_disk_is_passed_over(run, work, small_settings, tmp_path):
    shutil.copytree(run / "fold_0", tmp_path / "fold_0")
    newest = tmp_path / "fold_0" / "checkpoint_0002.pt"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 4096] = bytes(4096)
    newest.write_bytes(content)

    with pytest.warns(UserWarning, match=r"checkpoint_0002.pt cannot be read \(.* in it is damaged\)"):
        train_fold(work, tmp_path, small_settings, 0, resume=True, progress=False)

    assert same_weights(run / "fold_0", tmp_path / "fold_0")


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


def test_weights_that_the_last_step_ruined_are_neither_kept_nor_gone_on_from(work, small_settings, tmp_path):
    # of one step, so that no other one notices
    ruinous = replace(
        small_settings.training,
        learning_rate=1e30,
        gradient_clip=0.0,
        warmup_epochs=0.0,
        samples_per_epoch=4,
        ema_decay=0.0,
    )
    with pytest.raises(
        TrainingError, match=r"the held-out loss became nan in epoch 1; no epoch was finished"
    ):
        train_fold(work, tmp_path, replace(small_settings, training=ruinous), 0, progress=False)
    assert not list((tmp_path / "fold_0").glob("checkpoint_*"))
    assert not (tmp_path / "fold_0" / "model.safetensors").exists()


def test_held_out_scans_without_an_organ_are_refused(work, small_settings, tmp_path):
    shutil.copytree(work, tmp_path / "work")
    index = pd.read_csv(work / "index.csv", dtype=str, keep_default_na=False)
    folds = pd.read_csv(work / "folds.csv")
    cases = folds[folds["fold"] == 0]["case"]
    index.loc[index["case"].isin(cases), ["large_bowel", "small_bowel", "stomach"]] = ""
    index.to_csv(tmp_path / "work" / "index.csv", index=False)
    with pytest.raises(SettingsError, match=r"fold 0 show no large_bowel and no small_bowel and no stomach"):
        train_fold(tmp_path / "work", tmp_path, small_settings, 0, progress=False)


def test_prediction_settings_are_read_before_the_training(work, small_settings, tmp_path):
    for name in ("threshold", "gate_threshold"):
        prediction = replace(small_settings.prediction, **{name: {"large_bowl": 0.9}})
        with pytest.raises(SettingsError, match=f"prediction.{name} names large_bowl"):
            train_fold(work, tmp_path, replace(small_settings, prediction=prediction), 0, progress=False)


@pytest.mark.parametrize(
    ("device", "told"),
    [("foo", "'foo' is no device; name cpu, cuda"), ("cuda:9", "cuda:9 was asked for, and torch finds")],
)
def test_a_device_that_is_not_there_is_named(work, small_settings, tmp_path, device, told):
    with pytest.raises(SettingsError, match=told):
        train_fold(work, tmp_path, small_settings, 0, device=device, progress=False)


def test_one_slice_a_batch_that_cannot_be_normalised_is_said_so(tmp_path):
    with pytest.raises(SettingsError, match=r"set training.batch_size to 2 or more"), clear_ending(tmp_path):
        torch.nn.BatchNorm2d(3)(torch.zeros(1, 3, 1, 1))
    with pytest.raises(ValueError, match="another"), clear_ending(tmp_path):
        raise ValueError("another")


def test_a_held_out_loss_that_does_not_fit_the_gpu_is_computed_outside():
    class Elsewhere(torch.Tensor):
        def to(self, *_, **__):
            raise torch.OutOfMemoryError("CUDA out of memory")

    logits = torch.ones(2, 2).as_subclass(Elsewhere)
    loss = validation._loss_on(
        torch.device("cpu"), lambda one, other: (one - other).sum(), logits, torch.zeros(2, 2)
    )
    assert loss == 4.0


def test_the_rate_warms_up_and_falls_along_a_cosine():
    factors = [cosine_factor(step, warmup_steps=10, total_steps=110) for step in range(110)]

    assert factors[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert factors[60] == pytest.approx(0.505, abs=0.01)
    assert factors[-1] == pytest.approx(0.01, abs=0.001)
    assert all(later < earlier for earlier, later in pairwise(factors[10:]))
