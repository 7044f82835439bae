"""The training kernel's own part: what it starts, what it takes up, and how it ends when its time is up."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from gitract_kit.errors import DatasetError, TrainingError
from gitract_kit.shipping import training_kernel
from gitract_kit.shipping.training_kernel import find_fold, train_in_session


@pytest.fixture
def started(monkeypatch) -> list[list[str]]:
    """The commands that were to be started, of which none is."""
    commands: list[list[str]] = []

    def start(command: list[str], **_) -> subprocess.Popen:
        commands.append(command)
        return popen(["true"])

    popen = subprocess.Popen
    monkeypatch.setattr(training_kernel.subprocess, "Popen", start)
    return commands


def replace_commands(monkeypatch, *programs: str) -> None:
    """Start ``programs``, lines of the shell, in place of the kit's verbs."""
    waiting, popen = list(programs), subprocess.Popen
    monkeypatch.setattr(
        training_kernel.subprocess, "Popen", lambda *_, **__: popen(["sh", "-c", waiting.pop(0)])
    )


def write_output(folder: Path, *names: str) -> Path:
    """What a kernel left: a run folder of fold 2."""
    for name in names:
        path = folder / "run" / "fold_2" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"earlier {name}")
        path.chmod(0o444)
    return folder


@pytest.mark.parametrize(
    ("gpus", "launcher"),
    [(0, []), (1, []), (2, ["torch.distributed.run", "--nproc_per_node=2", "-m"])],
)
def test_every_gpu_gets_a_process(gpus, launcher, started, tmp_path):
    told = train_in_session(
        "root", "work", tmp_path / "run", "baseline", 2, ["training.epochs=3", "window.slices=3"], gpus=gpus
    )

    prepare, train = started
    assert prepare[1:] == ["-m", "gitract_kit", "prepare", "root", "-o", "work"]
    assert train[1 : 3 + len(launcher)] == ["-m", *launcher, "gitract_kit"]
    # torch's own reading of the line: the package and what is left for it
    assert train[3 + len(launcher) :] == [
        *("train", "work", "-o", str(tmp_path / "run"), "--preset", "baseline", "--fold", "2", "--resume"),
        *("--set", "training.epochs=3", "--set", "window.slices=3"),
    ]
    assert told == f"fold 2 is trained: {tmp_path / 'run' / 'fold_2'}"


def test_torchrun_reads_the_line_as_the_kit_and_its_arguments(started):
    from torch.distributed.run import parse_args

    train_in_session("root", "work", "run", "baseline", 0, gpus=2)

    read = parse_args(started[1][3:])
    assert (read.nproc_per_node, read.module, read.training_script) == ("2", True, "gitract_kit")
    assert read.training_script_args[:2] == ["train", "work"]


@pytest.mark.usefixtures("started")
def test_earlier_output_is_copied_and_can_be_written_to(tmp_path, capfd):
    output = write_output(tmp_path / "mounted", "checkpoint_0007.pt", "model.json", "overlays/epoch_007.png")
    train_in_session("root", "work", tmp_path / "run", "baseline", 2, earlier=[output])

    copied = tmp_path / "run" / "fold_2"
    assert (copied / "checkpoint_0007.pt").read_text() == "earlier checkpoint_0007.pt"
    assert all(path.stat().st_mode & 0o200 for path in copied.rglob("*"))
    assert (copied / "overlays" / "epoch_007.png").is_file()
    assert f"going on from {output / 'run' / 'fold_2'}, checkpoint_0007.pt" in capfd.readouterr().out


@pytest.mark.usefixtures("started")
def test_what_the_run_holds_already_is_newer_than_what_is_mounted(tmp_path):
    output = write_output(tmp_path / "mounted", "checkpoint_0007.pt", "metrics.csv")
    own = tmp_path / "run" / "fold_2"
    own.mkdir(parents=True)
    (own / "checkpoint_0009.pt").touch()
    (own / "metrics.csv").write_text("own")
    train_in_session("root", "work", tmp_path / "run", "baseline", 2, earlier=[output])

    assert (own / "metrics.csv").read_text() == "own"
    assert not (own / "checkpoint_0007.pt").exists()


def test_output_of_another_fold_is_refused(started, tmp_path):
    output = write_output(tmp_path / "mounted", "model.json")
    with pytest.raises(
        DatasetError, match=r"holds no fold 3, neither fold_3 nor run/fold_3 \(there is run\)"
    ):
        train_in_session("root", "work", tmp_path / "run", "baseline", 3, earlier=[output])
    assert started == []


def test_a_fold_is_found_in_the_output_and_in_the_run_in_it(tmp_path):
    output = write_output(tmp_path, "model.json")

    assert find_fold(output, 2) == find_fold(output / "run", 2) == output / "run" / "fold_2"


def test_a_verb_that_fails_stops_the_notebook(monkeypatch, tmp_path):
    replace_commands(monkeypatch, "true", "exit 2")
    with pytest.raises(TrainingError, match="`gitract train` ended with exit code 2: what it said is above"):
        train_in_session("root", "work", tmp_path, "baseline", 0)


def test_a_session_on_kaggle_without_a_gpu_is_refused(started, monkeypatch):
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Batch")
    with pytest.raises(TrainingError, match="this session has no GPU"):
        train_in_session("root", "work", "run", "baseline", 0, gpus=0)
    assert started == []


def test_when_time_is_up_the_newest_checkpoint_is_what_is_left(monkeypatch, tmp_path):
    save = f"mkdir {tmp_path}/fold_1 && touch {tmp_path}/fold_1/checkpoint_0004.pt"
    replace_commands(monkeypatch, "true", f"{save} && exec sleep 600")
    told = train_in_session("root", "work", tmp_path, "baseline", 1, hours=2 / 3600)

    assert told.startswith("fold 1 is NOT trained to its end")
    assert "checkpoint_0004.pt is the newest" in told
    assert "again with --resume" in told


@pytest.mark.parametrize(
    ("programs", "message"),
    [
        (("exec sleep 600",), "were over before the scans were decoded"),
        (("true", "exec sleep 600"), "were over before the first epoch was"),
    ],
)
def test_time_that_is_up_before_anything_is_left_is_an_error(programs, message, monkeypatch, tmp_path):
    replace_commands(monkeypatch, *programs)
    with pytest.raises(TrainingError, match=message):
        train_in_session("root", "work", tmp_path, "baseline", 1, hours=1 / 3600)
