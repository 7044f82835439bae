"""Optimisers, schedules, averages, mixes and early ends: each does what it says, and a resumed run goes on with it."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from gitract_kit.data.dataset import SliceDataset
from gitract_kit.errors import SettingsError
from gitract_kit.settings import Settings, TrainingSettings, load_preset, override_settings, preset_names
from gitract_kit.training import train_fold, trainer
from gitract_kit.training.averaging import create_moving_average
from gitract_kit.training.mixing import blend, mix_batch, paste
from gitract_kit.training.optimizers import create_optimizer
from gitract_kit.training.schedule import Schedule


@pytest.fixture
def tiny_network(monkeypatch):
    """A network of one convolution: a run of it lasts as long as its data, and no batch changes another's result."""

    def create(_, *, in_channels, classes):
        return nn.Sequential(nn.Conv2d(in_channels, classes, 3, padding=1))

    monkeypatch.setattr(trainer, "create_model", create)


def recipe(settings, **changes):
    return replace(settings, training=replace(settings.training, **{"ema_decay": 0.0, **changes}))


def train(work, run, settings, **options):
    result = train_fold(work, run, settings, 0, progress=False, **options)
    return result, load_file(run / "fold_0" / "model.safetensors")


def scores_of(monkeypatch, totals):
    """Make the held-out scores of a run those of ``totals``, one an epoch."""
    rest = iter(totals)

    def scored(self, *_):
        return 0.5, type("Score", (), {"total": next(rest), "dice": 0.5, "hausdorff": 0.5})

    monkeypatch.setattr(trainer.Validation, "run", scored)


def rates_of(settings, steps_per_epoch, scores):
    """The learning rate of every step of a run with these held-out scores."""
    optimizer = create_optimizer([nn.Parameter(torch.zeros(1))], settings)
    schedule, rates = Schedule(optimizer, settings, steps_per_epoch=steps_per_epoch), []
    for score in scores:
        for _ in range(steps_per_epoch):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.after_step()
        schedule.after_epoch(score)
    return rates


@pytest.mark.parametrize(
    ("name", "kind"), [("adamw", torch.optim.AdamW), ("adam", torch.optim.Adam), ("sgd", torch.optim.SGD)]
)
def test_optimisers_by_name(name, kind):
    settings = TrainingSettings(optimizer=name, learning_rate=0.02, weight_decay=0.003)
    optimizer = create_optimizer([nn.Parameter(torch.zeros(1))], settings)

    assert type(optimizer) is kind
    assert optimizer.defaults["lr"] == 0.02
    assert optimizer.defaults["weight_decay"] == 0.003


def test_one_cycle_rises_to_the_rate_and_falls_to_nearly_nothing():
    settings = TrainingSettings(schedule="one-cycle", learning_rate=0.01, epochs=10)
    rates = rates_of(settings, 20, [0.0] * 10)
    top = int(np.argmax(rates))

    assert max(rates) == pytest.approx(0.01, rel=1e-3)
    assert 40 < top < 80
    assert (np.diff(rates[: top + 1]) > 0).all()
    assert (np.diff(rates[top:]) < 0).all()
    assert rates[-1] < 1e-5


def test_plateau_lowers_the_rate_once_the_patience_is_over():
    settings = TrainingSettings(
        schedule="plateau", learning_rate=0.08, plateau_patience=2, plateau_factor=0.5, epochs=9
    )

    # better until the third epoch; the patience ends after two more, and once again after three
    rates = rates_of(settings, 1, [0.1, 0.2, 0.3, 0.3, 0.2, 0.3, 0.3, 0.3, 0.3])

    assert rates == [0.08] * 6 + [0.04] * 3


@pytest.mark.parametrize("name", ["cosine", "one-cycle", "plateau"])
def test_a_schedule_goes_on_from_its_state(name):
    settings = TrainingSettings(schedule=name, epochs=8, plateau_patience=2)
    scores = [0.5, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4]

    def create():
        optimizer = create_optimizer([nn.Parameter(torch.zeros(1))], settings)
        return optimizer, Schedule(optimizer, settings, steps_per_epoch=3)

    def rates(optimizer, schedule, scores):
        for score in scores:
            for _ in range(3):
                yield optimizer.param_groups[0]["lr"]
                optimizer.step()
                schedule.after_step()
            schedule.after_epoch(score)

    unbroken = list(rates(*create(), scores))
    optimizer, schedule = create()
    first = list(rates(optimizer, schedule, scores[:3]))
    again, resumed = create()
    again.load_state_dict(optimizer.state_dict())
    resumed.load_state_dict(schedule.state_dict())

    assert first + list(rates(again, resumed, scores[3:])) == unbroken
    assert len(set(unbroken)) > 1


@pytest.mark.parametrize("name", ["cosine", "one-cycle", "plateau"])
def test_a_schedule_goes_on_at_another_rate(name):
    settings = TrainingSettings(schedule=name, epochs=4, plateau_patience=0)

    def rates(factor):
        optimizer = create_optimizer([nn.Parameter(torch.zeros(1))], settings)
        schedule = Schedule(optimizer, settings, steps_per_epoch=3)
        for epoch in range(4):
            if epoch == 2:
                schedule.multiply_rates(factor)
            for _ in range(3):
                yield optimizer.param_groups[0]["lr"]
                optimizer.step()
                schedule.after_step()
            schedule.after_epoch(0.5)

    plain, lower = list(rates(1.0)), list(rates(0.1))

    assert lower[:6] == plain[:6]
    # after the first step: the one at hand was set before
    assert lower[6:] == pytest.approx([0.1 * rate for rate in plain[6:]])


def test_a_mix_follows_seed_epoch_and_step_alone():
    images, masks = torch.rand(6, 3, 16, 16), torch.rand(6, 2, 16, 16)
    settings = TrainingSettings(mixup=0.5, cutmix=0.5)

    def mixed(settings, epoch, step):
        return torch.cat(mix_batch(images, masks, settings, epoch=epoch, step=step), dim=1)

    assert torch.equal(mixed(settings, 1, 2), mixed(settings, 1, 2))
    for other in (
        mixed(settings, 2, 2),
        mixed(settings, 1, 3),
        mixed(replace(settings, seed=1), 1, 2),
    ):
        assert not torch.equal(mixed(settings, 1, 2), other)


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_masks_are_mixed_as_their_images(kind):
    """The masks are a copy of the images: whatever becomes of these must become of those."""
    images = torch.rand(5, 2, 16, 16)
    settings = TrainingSettings(**{kind: 1.0})
    changed = 0
    for step in range(20):
        mixed, masks = mix_batch(images, images.clone(), settings, epoch=0, step=step)
        changed += not torch.equal(mixed, images)

        assert torch.equal(mixed, masks)
    assert changed >= 15


def test_mixes_come_as_often_as_told():
    images = torch.rand(3, 1, 8, 8)
    settings = TrainingSettings(mixup=0.2, cutmix=0.1)
    same = [mix_batch(images, images, settings, epoch=0, step=step)[0] is images for step in range(1000)]

    assert np.mean(same) == pytest.approx(0.7, abs=0.05)
    assert mix_batch(images, images, TrainingSettings(), epoch=0, step=0)[0] is images


def test_blending_and_pasting_of_known_batches():
    batch, order = torch.tensor([0.0, 10.0])[:, None, None, None].expand(2, 1, 4, 4), torch.tensor([1, 0])

    assert torch.unique(blend(batch, order, 0.75)).tolist() == [2.5, 7.5]
    pasted = paste(batch, order, slice(0, 2), slice(1, 3))
    assert pasted[0, 0].tolist() == [[0, 10, 10, 0]] * 2 + [[0, 0, 0, 0]] * 2
    assert batch[0].max() == 0


def test_a_moving_average_follows_its_decay():
    network = nn.Linear(1, 1, bias=False)
    average = create_moving_average(network, 0.9)
    weights = []
    for step in range(200):
        with torch.no_grad():
            network.weight.fill_(float(step >= 100))
        average.update_parameters(network)
        weights.append(average.module.weight.item())

    assert weights[99] == 0
    assert weights[109] == pytest.approx(1 - 0.9**10, abs=1e-5)


def test_accumulated_batches_step_as_one_large_batch(work, small_settings, tmp_path, tiny_network):
    # plain steps: AdamW's would not tell a gradient from twice the gradient
    plain = {"optimizer": "sgd", "gradient_clip": 0.0, "learning_rate": 0.5, "loss": {"bce": 1.0}}
    large = recipe(small_settings, batch_size=4, samples_per_epoch=12, epochs=1, **plain)
    small = replace(large, training=replace(large.training, batch_size=2, accumulate=2))

    _, one = train(work, tmp_path / "one", large)
    _, two = train(work, tmp_path / "two", small)

    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=1e-4, atol=1e-6)


def test_the_last_group_of_an_epoch_may_be_short(work, small_settings, tmp_path, tiny_network, monkeypatch):
    settings = recipe(small_settings, batch_size=2, samples_per_epoch=10, epochs=2, accumulate=3)
    steps = []
    monkeypatch.setattr(Schedule, "after_step", lambda self: steps.append(self._scheduler.last_epoch))

    train(work, tmp_path, settings)

    # five batches: a group of three and one of two, in each of two epochs
    assert len(steps) == 4


def test_a_run_without_a_better_score_ends_early(work, small_settings, tmp_path, tiny_network, monkeypatch):
    scores_of(monkeypatch, [0.2, 0.5, 0.4, 0.45, 0.5, 0.9])
    settings = recipe(small_settings, samples_per_epoch=4, epochs=6, early_stop=3)

    result, _ = train(work, tmp_path, settings)

    assert (result.epoch, result.score) == (2, 0.5)
    assert len(pd.read_csv(tmp_path / "fold_0" / "metrics.csv")) == 5
    again, _ = train(work, tmp_path, settings, resume=True)
    assert again == result


def test_the_average_of_the_last_epochs_is_scored_and_kept(
    work, small_settings, tmp_path, tiny_network, monkeypatch
):
    scores_of(monkeypatch, [0.2, 0.5, 0.4, 0.6])
    ends, save = [], trainer.save_checkpoint

    def saved(folder, epoch, state):
        ends.append({name: tensor.clone() for name, tensor in state["network"].items()})
        return save(folder, epoch, state)

    monkeypatch.setattr(trainer, "save_checkpoint", saved)
    settings = recipe(small_settings, samples_per_epoch=8, epochs=3, swa_epochs=2)

    result, weights = train(work, tmp_path, settings)

    assert (result.epoch, result.score) == (4, 0.6)
    for name, tensor in weights.items():
        torch.testing.assert_close(tensor, (ends[1][name] + ends[2][name]) / 2)
    assert pd.read_csv(tmp_path / "fold_0" / "metrics.csv")["epoch"].tolist() == [1, 2, 3, 4]


def test_the_average_of_epochs_has_statistics_of_its_own(work, small_settings, tmp_path, monkeypatch):
    def create(_, *, in_channels, classes):
        return nn.Sequential(nn.Conv2d(in_channels, classes, 1), nn.BatchNorm2d(classes))

    monkeypatch.setattr(trainer, "create_model", create)
    scores_of(monkeypatch, [0.2, 0.3, 0.6])
    settings = recipe(small_settings, batch_size=4, samples_per_epoch=8, epochs=2, swa_epochs=1)

    _, weights = train(work, tmp_path, settings)

    # of one pass over two batches, not of the two epochs
    assert weights["1.num_batches_tracked"] == 2


RECIPES = {
    "sgd, one-cycle, mixes": {
        "optimizer": "sgd",
        "schedule": "one-cycle",
        "mixup": 0.5,
        "cutmix": 0.5,
        "accumulate": 2,
    },
    "adam, plateau, moving average": {
        "optimizer": "adam",
        "schedule": "plateau",
        "plateau_patience": 0,
        "ema_decay": 0.9,
        "early_stop": 2,
    },
    "adamw, cosine, average of epochs": {"swa_epochs": 2, "ema_decay": 0.5},
}


@pytest.mark.parametrize("changes", RECIPES.values(), ids=RECIPES)
def test_a_resumed_run_ends_as_the_unbroken_one_whatever_the_recipe(
    work, small_settings, tmp_path, monkeypatch, changes
):
    settings = recipe(small_settings, samples_per_epoch=12, epochs=3, **changes)
    unbroken, weights = train(work, tmp_path / "unbroken", settings)
    step, calls = trainer._Trainer._step, []

    def failing_step(self, images, masks):
        calls.append(self.epoch)
        if calls.count(2) == 2:
            raise KeyboardInterrupt
        return step(self, images, masks)

    monkeypatch.setattr(trainer._Trainer, "_step", failing_step)
    with pytest.raises(KeyboardInterrupt):
        train(work, tmp_path / "broken", settings)
    monkeypatch.setattr(trainer._Trainer, "_step", step)
    resumed, again = train(work, tmp_path / "broken", settings, resume=True)

    assert (resumed.epoch, resumed.score) == (unbroken.epoch, unbroken.score)
    for name, tensor in weights.items():
        assert torch.equal(tensor, again[name])


def test_an_average_scored_after_resume_is_the_unbroken_one_also_with_dropout(
    work, small_settings, tmp_path, monkeypatch
):
    create = trainer.create_model

    def with_dropout(*arguments, **options):
        network = create(*arguments, **options)
        network.decoder.blocks[0].conv1.insert(0, torch.nn.Dropout(0.5))
        return network

    monkeypatch.setattr(trainer, "create_model", with_dropout)
    settings = recipe(small_settings, samples_per_epoch=8, epochs=2, swa_epochs=2)
    train(work, tmp_path, settings)
    first = (tmp_path / "fold_0" / "metrics.csv").read_text().splitlines()
    torch.manual_seed(5)
    train(work, tmp_path, settings, resume=True)
    again = (tmp_path / "fold_0" / "metrics.csv").read_text().splitlines()
    # all but the seconds
    assert len(first) == 4
    assert [line.rpartition(",")[0] for line in first] == [line.rpartition(",")[0] for line in again]


def test_a_run_starts_from_the_weights_of_another(work, run, small_settings, tmp_path, capsys):
    given = run / "fold_0" / "model.safetensors"
    settings = recipe(small_settings, samples_per_epoch=4, epochs=1, learning_rate=1e-12, warmup_epochs=0.0)
    settings = replace(
        settings,
        model=replace(settings.model, initial_weights=str(given)),
        window=replace(settings.window, slices=5),
    )

    _, weights = train(work, tmp_path, settings)

    start = load_file(given)
    learned = [name for name in weights if name.startswith("segmentation_head")]
    assert learned
    for name in learned:
        torch.testing.assert_close(weights[name], start[name], rtol=0, atol=1e-6)
    assert "leaves 1 tensors as they are: encoder.model.conv1.0.weight" in capsys.readouterr().err


def test_only_the_slices_that_were_asked_for_are_drawn(
    work, small_settings, tmp_path, tiny_network, monkeypatch
):
    drawn = []
    take = SliceDataset.__getitem__

    def noted(self, sample):
        drawn.append(bool(self.holds_organ()[sample[0]]))
        return take(self, sample)

    monkeypatch.setattr(SliceDataset, "__getitem__", noted)
    train(work, tmp_path, recipe(small_settings, epochs=1, slices="labelled", empty_share=None))

    assert drawn
    assert all(drawn)


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (["training.optimizer=adm"], "training.optimizer is 'adm'; it must be one of adamw, adam, sgd"),
        (["training.schedule=step"], "one of cosine, one-cycle, plateau"),
        (["training.slices=labeled"], "one of all, labelled, no-tail"),
        (["training.accumulate=0"], "training.accumulate is 0; it must be 1 or more"),
        (["training.mixup=0.7", "training.cutmix=0.5"], "together at most 1"),
        (["training.swa_epochs=99"], "training.swa_epochs is 99; it must be 0 to training.epochs"),
        (["training.swa_epochs=2", "training.early_stop=3"], "0 with training.early_stop"),
        (["training.plateau_factor=1"], "over 0 and below 1"),
    ],
)
def test_an_impossible_recipe_says_what_is_wrong(assignments, message):
    with pytest.raises(SettingsError, match=message):
        override_settings(Settings(), assignments)


def test_the_networks_of_the_course_differ_in_their_architecture_alone():
    first, second, third = (load_preset(f"course-{name}") for name in ("unet", "unetpp", "deeplab"))

    assert replace(second, preset=first.preset, model=first.model) == first
    assert replace(third, preset=first.preset, model=first.model) == first
    assert (
        replace(second.model, architecture="unet") == replace(third.model, architecture="unet") == first.model
    )


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_makes_a_network_over_its_own_input(name):
    settings = load_preset(name)
    shape = settings.window.slices, settings.geometry.height, settings.geometry.width

    # shapes without numbers: the largest network takes no memory
    with torch.device("meta"):
        network = trainer.create_model(
            replace(settings.model, encoder_weights=None),
            in_channels=settings.window.slices,
            classes=len(settings.organs),
        )
        logits = network(torch.empty(2, *shape))

    assert logits.shape == (2, len(settings.organs), *shape[1:])
    trainer.create_loss(settings.training.loss)
