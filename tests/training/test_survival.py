"""Runs that are killed, run out of disk or lose a process: they go on as if nothing had been, or end clearly."""

import errno
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from gitract_kit.errors import TrainingError
from gitract_kit.settings import settings_to_dict
from gitract_kit.training import checkpoint, train_fold, trainer

SCRIPT = Path(__file__).with_name("killed_runs.py")


def with_training(settings, **changes):
    return replace(settings, training=replace(settings.training, **changes))


def temporary_files(folder):
    return [path for path in folder.rglob(".*") if path.is_file()]


@pytest.mark.slow
def test_a_run_killed_at_any_moment_ends_as_one_left_alone(work, small_settings, tmp_path):
    settings = with_training(small_settings, samples_per_epoch=16)
    # the children compute with one thread, and bit for bit is within one number of threads
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    train_fold(work, tmp_path / "alone", settings, 0, device="cpu", progress=False)
    torch.set_num_threads(threads)

    script = [sys.executable, str(SCRIPT), str(work), str(tmp_path), json.dumps(settings_to_dict(settings))]
    # returns once nobody holds the pipes: a loader's process that outlived its run would keep it to the timeout
    done = subprocess.run(script, capture_output=True, text=True, timeout=300, check=True)
    told = json.loads(done.stdout)

    assert len(told) == 8
    assert all(moment["killed"] and moment["resumed"] for moment in told.values()), (told, done.stderr)
    assert any(name.startswith(".checkpoint_0002-") for name in told["half a checkpoint written"]["left"])
    alone = tmp_path / "alone" / "fold_0"
    weights = load_file(alone / "model.safetensors")
    losses = pd.read_csv(alone / "metrics.csv").drop(columns="train_seconds")
    for moment in told:
        folder = tmp_path / moment / "fold_0"
        again = load_file(folder / "model.safetensors")
        assert weights.keys() == again.keys()
        assert all(torch.equal(weights[name], again[name]) for name in weights), moment
        assert json.loads((folder / "model.json").read_text())["sha256"]
        assert pd.read_csv(folder / "metrics.csv").drop(columns="train_seconds").equals(losses), moment
        assert {path.name for path in folder.rglob("*")} == {path.name for path in alone.rglob("*")}


def test_a_full_disk_ends_the_run_and_names_the_last_good_checkpoint(
    work, small_settings, tmp_path, monkeypatch
):
    save, saved = torch.save, []

    class FullDisk:
        def __init__(self, file):
            self.file, self.room = file, 20_000

        def write(self, content):
            self.room -= len(content)
            if self.room < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return self.file.write(content)

        def flush(self):
            self.file.flush()

    def save_second_on_a_full_disk(state, file):
        saved.append(state["epoch"])
        save(state, FullDisk(file) if state["epoch"] == 2 else file)

    monkeypatch.setattr(checkpoint.torch, "save", save_second_on_a_full_disk)
    with pytest.raises(
        TrainingError, match=r"fold_0 is full \(No space left.*last good checkpoint is .*checkpoint_0001\.pt"
    ):
        train_fold(work, tmp_path, small_settings, 0, progress=False)

    folder = tmp_path / "fold_0"
    assert saved == [1, 2]
    assert [path.name for path in folder.glob("checkpoint_*")] == ["checkpoint_0001.pt"]
    assert temporary_files(folder) == []
    assert "is full" in (folder / "train.log").read_text().splitlines()[-1]


def test_a_killed_loader_process_ends_the_run_clearly(work, small_settings, tmp_path, monkeypatch):
    step, killed = trainer._Trainer._step, []

    def step_without_loaders(self, images, masks):
        if (self.epoch, self.batch) == (1, 1):
            for worker in self.loader._iterator._workers:
                killed.append(worker.pid)
                os.kill(worker.pid, signal.SIGKILL)
        return step(self, images, masks)

    monkeypatch.setattr(trainer._Trainer, "_step", step_without_loaders)
    with pytest.raises(
        TrainingError, match=r"prepares batches was lost .*training.workers.*checkpoint_0001\.pt: go on"
    ):
        train_fold(
            work, tmp_path, with_training(small_settings, workers=1, samples_per_epoch=24), 0, progress=False
        )

    assert killed
    assert temporary_files(tmp_path) == []


def test_a_lower_rate_given_with_resume_counts(work, small_settings, tmp_path, monkeypatch):
    settings = with_training(small_settings, epochs=2, samples_per_epoch=8)
    save = trainer.save_checkpoint

    def interrupted(folder, epoch, state):
        save(folder, epoch, state)
        raise KeyboardInterrupt

    monkeypatch.setattr(trainer, "save_checkpoint", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_fold(work, tmp_path, settings, 0, progress=False)
    monkeypatch.setattr(trainer, "save_checkpoint", save)
    lower = with_training(settings, learning_rate=settings.training.learning_rate / 10)
    train_fold(work, tmp_path, lower, 0, resume=True, progress=False)

    rates = pd.read_csv(tmp_path / "fold_0" / "metrics.csv")["learning_rate"]
    assert rates[1] < 0.1 * rates[0]


def test_a_run_folder_says_how_it_was_computed(run, work, small_settings):
    folder = run / "fold_0"
    record = json.loads((folder / "run.json").read_text())
    log = (folder / "train.log").read_text().splitlines()

    assert record["settings"]["training"]["seed"] == small_settings.training.seed
    assert record["data_fingerprint"] == json.loads((work / "prepared.json").read_text())["fingerprint"]
    assert record["git_revision"]
    assert record["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert record["computing"]["precision"] == "fp32"
    assert record["computing"]["memory_format"] == "channels_last"
    assert record["computing"]["compiled"] is False
    assert "fold 0 from epoch 1" in log[0]
    assert "epoch 2: loss" in log[-2]
    assert "done: score" in log[-1]


def test_no_git_is_no_fault(monkeypatch, tmp_path):
    from gitract_kit.training import record

    monkeypatch.chdir(tmp_path)
    assert record._git_revision() == "unknown"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert record._git_revision() == "unknown"


def test_a_run_that_failed_before_its_first_epoch_can_be_started_again(work, small_settings, tmp_path):
    with pytest.raises(TrainingError, match="no epoch was finished yet"):
        train_fold(
            work,
            tmp_path,
            with_training(small_settings, learning_rate=1e30, gradient_clip=0.0, epochs=1),
            0,
            progress=False,
        )

    train_fold(work, tmp_path, with_training(small_settings, epochs=1), 0, progress=False)


def test_a_compiled_network_learns_and_is_saved_under_its_own_names(
    run, work, small_settings, tmp_path, monkeypatch
):
    compiled, compile_ = [], torch.compile

    def without_a_compiler(network):
        compiled.append(network)
        return compile_(network, backend="aot_eager")

    monkeypatch.setattr(torch, "compile", without_a_compiler)
    train_fold(
        work, tmp_path, with_training(small_settings, compile=True, samples_per_epoch=8), 0, progress=False
    )

    folder = tmp_path / "fold_0"
    names = load_file(run / "fold_0" / "model.safetensors").keys()
    state = torch.load(folder / "checkpoint_0002.pt", weights_only=True)
    assert len(compiled) == 1
    assert load_file(folder / "model.safetensors").keys() == names == state["network"].keys()
    assert json.loads((folder / "run.json").read_text())["computing"]["compiled"] is True
    losses = pd.read_csv(folder / "metrics.csv")["train_loss"]
    assert losses[1] < losses[0]


def test_a_network_that_cannot_be_compiled_ends_the_run_clearly(work, small_settings, tmp_path, monkeypatch):
    def no_compiler(*_):
        raise OSError("there is no C++ compiler")

    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda network: compile_(network, backend=no_compiler))
    with pytest.raises(TrainingError, match=r"cannot be compiled here .*set training.compile=false"):
        train_fold(work, tmp_path, with_training(small_settings, compile=True), 0, progress=False)
