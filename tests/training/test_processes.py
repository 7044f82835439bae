"""Two processes that torchrun starts, on CPUs by Gloo: they learn as one does, and end together."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from timm.layers import BatchNormAct2d

from gitract_kit.errors import SettingsError
from gitract_kit.settings import load_preset, override_settings
from gitract_kit.training import train_fold
from gitract_kit.training.processes import Processes, join_processes

SCRIPT = Path(__file__).with_name("killed_process.py")
# everything that joins a batch's samples, and no batch normalisation, which torch shares among GPUs alone
CHANGES = [
    "geometry={height: 64, width: 64}",
    "window.slices=3",
    "model={architecture: unet_2015, decoder_channels: [8, 4]}",
    "augmentation=strong",
    "training={epochs: 3, samples_per_epoch: 12, batch_size: 4, accumulate: 2, learning_rate: 0.003, workers: 0, "
    "cutmix: 0.5, mixup: 0.3, ema_decay: 0.9, schedule: plateau, plateau_patience: 0, early_stop: 5}",
    "training.loss={bce: 0.5, dice: 0.5, lovasz: 0.5, tversky: 0.5}",
]


def torchrun(work, out, *options, **environment):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    changes = [word for change in CHANGES for word in ("--set", change)]
    launcher = [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2"),
        *("--master_addr=127.0.0.1", "--local_addr=127.0.0.1", f"--master_port={port}"),
    ]
    train = ["train", str(work), "-o", str(out), "--preset", "tiny", "--fold", "0", "--device", "cpu"]
    return subprocess.run(
        [*launcher, str(SCRIPT), *train, *changes, *options],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.loopback
def test_two_processes_learn_as_one_also_when_one_was_killed(work, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.nn.Dropout, "forward", lambda self, features: features)
    settings = override_settings(load_preset("tiny"), CHANGES)
    alone = train_fold(work, tmp_path / "alone", settings, 0, device="cpu", progress=False)

    killed = torchrun(work, tmp_path / "two", KILLED="1")
    left = sorted(path.name for path in (tmp_path / "two" / "fold_0").glob("checkpoint_*"))
    resumed = torchrun(work, tmp_path / "two", "--resume")

    assert killed.returncode != 0
    # torchrun ends the others, if they do not notice first
    assert "SIGKILL" in killed.stderr
    assert left == ["checkpoint_0001.pt"]
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stdout.count("fold 0: score") == 1
    one, two = (pd.read_csv(tmp_path / name / "fold_0" / "metrics.csv") for name in ("alone", "two"))
    assert len(two) == 3
    for column in ("train_loss", "val_loss", "score"):
        assert two[column].tolist() == pytest.approx(one[column].tolist(), abs=1e-4)
    record = json.loads((tmp_path / "two" / "fold_0" / "run.json").read_text())
    assert record["computing"]["processes"] == 2
    assert alone.epoch == json.loads((tmp_path / "two" / "fold_0" / "model.json").read_text())["epoch"]


def test_shares_of_a_batch_are_equal_and_in_order():
    shares = [Processes(torch.device("cpu"), rank, 3).share(12) for rank in range(3)]

    assert [list(range(12))[share] for share in shares] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


def test_a_batch_that_cannot_be_shared_evenly_is_refused():
    with pytest.raises(SettingsError, match=r"a batch of 9 slices .* 2 processes; make training.batch_size"):
        Processes(torch.device("cpu"), 0, 2).share(9)


def test_batch_normalisation_is_shared_among_gpus_under_its_own_names():
    network = torch.nn.Sequential(torch.nn.BatchNorm2d(4), BatchNormAct2d(4))
    names = list(network.state_dict())

    assert not Processes(torch.device("cuda"), 0, 1).normalise_apart(network)
    assert Processes(torch.device("cpu"), 0, 2).normalise_apart(network)
    shared = Processes(torch.device("cuda"), 0, 2).normalising_together(network)

    assert all(isinstance(layer, torch.nn.SyncBatchNorm) for layer in shared)
    assert list(shared.state_dict()) == names


def test_more_processes_than_gpus_are_refused(monkeypatch):
    for name, value in {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)

    with (
        pytest.raises(SettingsError, match="found --device cuda, 1 GPUs and at least 2 processes here"),
        join_processes("cuda"),
    ):
        pass
