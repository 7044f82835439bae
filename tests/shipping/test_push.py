"""Pushes through the real client, to a stand-in for Kaggle that keeps every byte and lies as Kaggle does."""

from __future__ import annotations

import base64
import io
import json
import re
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kaggle_server import HANG, KEY, KaggleServer

from gitract_kit.errors import GitractError, KaggleError, PushError, SessionLimitError
from gitract_kit.shipping import kaggle as pushing
from gitract_kit.shipping import kaggle_client, kernel_runs
from gitract_kit.shipping.fold_runs import push_folds
from gitract_kit.shipping.kaggle import InvalidSourcesError, push_dataset, push_kernel, push_submission
from gitract_kit.shipping.kaggle_metadata import write_dataset_metadata
from gitract_kit.shipping.kernel_runs import (
    collect_output,
    read_kernel_state,
    wait_for_dataset,
    wait_for_kernel,
)

KERNELS = Path(__file__).resolve().parents[2] / "kernels"
COMPETITION = "uw-madison-gi-tract-image-segmentation"
FOLDS = [f"alice/gitract-train-fold-{fold}" for fold in range(5)]


def meant_text(name: str, fold: int | None = None) -> str:
    """The notebook that alice means to push: the kit's own, her name and the fold put in, as the client packs it."""
    notebook = json.loads(next((KERNELS / name).glob("*.ipynb")).read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        cell["source"] = "".join(cell["source"])
        if cell["cell_type"] == "code":
            cell["source"] = cell["source"].replace("your-kaggle-name", "alice")
            if fold is not None:
                cell["source"] = re.sub(r"(?m)^FOLD = \d+", f"FOLD = {fold}", cell["source"])
    return json.dumps(notebook)


def meant_kernel(name: str, fold: int | None = None) -> dict[str, Any]:
    """The whole call that alice means to make."""
    written = (KERNELS / name / "kernel-metadata.json").read_text(encoding="utf-8")
    metadata = json.loads(written.replace("your-kaggle-name", "alice"))
    call = {
        "slug": metadata["id"],
        "newTitle": metadata["title"],
        "text": meant_text(name, fold),
        "language": "python",
        "kernelType": "notebook",
        "datasetDataSources": metadata["dataset_sources"],
        "kernelDataSources": metadata["kernel_sources"],
        "competitionDataSources": metadata["competition_sources"],
        "modelDataSources": metadata["model_sources"],
        "categoryIds": metadata.get("keywords", []),
        "isPrivate": True,
        "enableGpu": True,
        "enableTpu": False,
        "enableInternet": metadata["enable_internet"],
        "machineShape": metadata["machine_shape"],
    }
    return {key: value for key, value in call.items() if value != []}


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A dataset of two files, one of them with every byte there is."""
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "fold_0.safetensors").write_bytes(bytes(range(256)) * 257)
    (folder / "README.md").write_text("Weights.\n")
    write_dataset_metadata(folder, "gitract-weights", subtitle="Five folds of a 2.5D U-Net")
    return folder


@pytest.mark.loopback
def test_the_inference_kernel_arrives_as_meant_and_nothing_shows_the_key(
    kaggle: KaggleServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("VERBOSE", "1")  # makes the client print its requests, the key in them
    pushed = push_kernel(KERNELS / "inference", owner="alice")
    (call,) = kaggle.calls
    assert call.body == meant_kernel("inference")
    assert call.body["enableInternet"] is False
    # byte for byte, since JSON that reads alike may be written otherwise
    assert call.body["text"].encode() == meant_text("inference").encode()
    assert (
        str(pushed) == "alice/gitract-inference version 1 https://www.kaggle.com/code/alice/gitract-inference"
    )
    secret = base64.b64encode(f"alice:{KEY}".encode()).decode()
    assert call.headers["Authorization"] == f"Basic {secret}"
    shown = "".join(capfd.readouterr())
    assert KEY not in shown
    assert secret not in shown


@pytest.mark.loopback
def test_train_kernels_arrive_one_a_fold(kaggle: KaggleServer):
    said: list[str] = []
    pushed = push_folds(KERNELS / "train", [0, 3], owner="alice", say=said.append)
    for call, fold in zip(kaggle.calls, [0, 3], strict=True):
        named = {"slug": f"alice/gitract-train-fold-{fold}", "newTitle": f"gitract train fold {fold}"}
        assert call.body == {**meant_kernel("train", fold), **named}
        assert f'"FOLD = {fold}' in call.body["text"]
    assert [one.id for one in pushed] == [FOLDS[0], FOLDS[3]]
    assert len(said) == 2


@pytest.mark.loopback
def test_a_dataset_is_created_as_meant_and_waited_for(kaggle: KaggleServer, dataset: Path):
    pushed = push_dataset(dataset, owner="alice")
    (call,) = kaggle.received("CreateDataset")
    body = call.body
    files = body.pop("files")
    assert sorted(file["token"] for file in files) == ["token-of-README.md", "token-of-fold_0.safetensors"]
    assert body == {
        "ownerSlug": "alice",
        "slug": "gitract-weights",
        "title": "gitract weights",
        "subtitle": "Five folds of a 2.5D U-Net",
        "licenseName": "CC0-1.0",
        "isPrivate": True,
    }
    assert kaggle.puts == {
        path.name: path.read_bytes() for path in dataset.iterdir() if path.name != "dataset-metadata.json"
    }
    assert str(pushed) == "alice/gitract-weights https://www.kaggle.com/datasets/alice/gitract-weights"
    kaggle.tell("GetDatasetStatus", (200, {"status": "BLOBS_RECEIVED"}))
    said: list[str] = []
    wait_for_dataset("alice/gitract-weights", poll_s=0, say=said.append)
    assert said == ["alice/gitract-weights blobs_received"]


@pytest.mark.loopback
def test_a_new_version_is_waited_for_and_not_the_one_before(kaggle: KaggleServer, dataset: Path):
    push_dataset(dataset, owner="alice")
    pushed = push_dataset(dataset, owner="alice", message="a second fold")
    assert str(pushed).startswith("alice/gitract-weights version 2 ")
    # ready is what Kaggle says of the old version, too
    kaggle.tell("GetDataset", (200, {"currentVersionNumber": 1}), (200, {"currentVersionNumber": 2}))
    said: list[str] = []
    wait_for_dataset(pushed.id, version=pushed.version, poll_s=0, say=said.append)
    assert said == ["alice/gitract-weights at version 1, not yet 2"]


@pytest.mark.loopback
def test_a_version_is_the_whole_folder_with_subfolders_packed(kaggle: KaggleServer, dataset: Path):
    (dataset / "run").mkdir()
    (dataset / "run" / "metrics.csv").write_bytes(b"epoch,loss\n0,1.0\n")
    push_dataset(dataset, owner="alice", message="a second fold", dir_mode="zip")
    (call,) = kaggle.received("CreateDatasetVersion")
    body = call.body
    tokens = sorted(file["token"] for file in body["body"].pop("files"))
    assert tokens == ["token-of-README.md", "token-of-fold_0.safetensors", "token-of-run.zip"]
    assert body == {
        "ownerSlug": "alice",
        "datasetSlug": "gitract-weights",
        "body": {"versionNotes": "a second fold", "subtitle": "Five folds of a 2.5D U-Net"},
    }
    with zipfile.ZipFile(io.BytesIO(kaggle.puts["run.zip"])) as archive:
        assert archive.read("metrics.csv") == b"epoch,loss\n0,1.0\n"
    assert kaggle.puts["fold_0.safetensors"] == (dataset / "fold_0.safetensors").read_bytes()
    assert not kaggle.received("CreateDataset")


@pytest.mark.loopback
def test_a_slug_that_is_taken_is_refused_with_the_way_to_a_version(kaggle: KaggleServer, dataset: Path):
    kaggle.datasets["alice/gitract-weights"] = "READY"
    with pytest.raises(PushError, match=r"already in use by a dataset.+give -m 'what changed'"):
        push_dataset(dataset, owner="alice")
    assert kaggle.puts == {}


@pytest.mark.loopback
def test_a_file_that_does_not_arrive_stops_the_dataset(kaggle: KaggleServer, dataset: Path):
    kaggle.tell("PUT", (403, b"expired"))
    with pytest.raises(KaggleError, match="1 of 2 files arrived, nothing was created") as failed:
        push_dataset(dataset, owner="alice")
    assert not kaggle.received("CreateDataset")
    assert "right=secret" not in str(failed.value)


@pytest.mark.loopback
def test_a_code_submission_arrives_as_meant(kaggle: KaggleServer):
    pushed = push_submission(COMPETITION, "alice/gitract-inference", 3, "five folds")
    (call,) = kaggle.calls
    assert call.body == {
        "competitionName": COMPETITION,
        "kernelOwner": "alice",
        "kernelSlug": "gitract-inference",
        "kernelVersion": 3,
        "fileName": "submission.csv",
        "submissionDescription": "five folds",
    }
    assert str(pushed).startswith(
        f"submission 4711 https://www.kaggle.com/competitions/{COMPETITION}/submissions"
    )


def test_a_submission_that_cannot_be_is_refused_before_anything_is_asked():
    with pytest.raises(PushError, match=r"competition is.+kernel is.+version is 0.+message is empty"):
        push_submission("competitions/uw", "inference", 0, " ")


@pytest.mark.loopback
def test_output_is_collected_byte_for_byte_over_several_pages(kaggle: KaggleServer, tmp_path: Path):
    kaggle.outputs[FOLDS[0]] = {
        "run/fold_0/model.safetensors": bytes(range(256)) * 300,
        "run/fold_0/model.json": b"{}",
        "empty.txt": b"",
    }
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "empty.txt").write_text("of an earlier run")
    files = collect_output(FOLDS[0], tmp_path / "out")
    found = {str(path.relative_to(tmp_path / "out")): path.read_bytes() for path in files}
    assert found == {**kaggle.outputs[FOLDS[0]], "gitract-train-fold-0.log": f"log of {FOLDS[0]}".encode()}
    assert sorted(path for path in (tmp_path / "out").rglob("*") if path.is_file()) == files


@pytest.mark.loopback
def test_output_that_cannot_be_downloaded_is_not_taken_for_output(kaggle: KaggleServer, tmp_path: Path):
    kaggle.outputs[FOLDS[0]] = {"model.json": b"{}"}
    kaggle.tell("GET", (500, b"<html>try later</html>"))
    with pytest.raises(KaggleError, match="Kaggle itself failed"):
        collect_output(FOLDS[0], tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.loopback
def test_a_run_that_ends_in_error_is_one_and_its_log_is_collected(kaggle: KaggleServer, tmp_path: Path):
    failed = {"status": "ERROR", "failureMessage": "CUDA out of memory"}
    kaggle.tell("GetKernelSessionStatus", (200, {"status": "QUEUED"}), (200, failed))
    said: list[str] = []
    with pytest.raises(KaggleError, match=r"ERROR: CUDA out of memory.+gitract-train-fold-0.log") as ended:
        wait_for_kernel(FOLDS[0], output=tmp_path, poll_s=0, say=said.append)
    assert ended.value.exit_code == 1
    assert (tmp_path / "gitract-train-fold-0.log").read_text() == f"log of {FOLDS[0]}"
    assert said[:2] == [f"{FOLDS[0]} QUEUED", f"{FOLDS[0]} ERROR: CUDA out of memory"]


SESSIONS = {"error": "Maximum batch GPU session count of 2 reached."}
SOURCES = {
    "ref": "/code/alice/gitract-inference",
    "versionNumber": 4,
    "invalidDatasetSources": ["alice/gitract-weights"],
    "invalidKernelSources": ["alice/gone-kernel"],
}


@pytest.mark.loopback
@pytest.mark.parametrize(
    ("status", "answer", "kind", "words"),
    [
        (200, SESSIONS, SessionLimitError, "session count of 2 reached; wait until a session ends"),
        (
            200,
            SOURCES,
            InvalidSourcesError,
            "version 4, but without dataset alice/gitract-weights, kernel alice/gone-kernel",
        ),
        (200, {"error": "The requested title is already in use"}, PushError, "choose another slug and title"),
        (409, {"code": 409, "message": "Conflict"}, PushError, "409: Conflict"),
        (500, {"code": 500, "message": "Oops"}, KaggleError, "Kaggle itself failed (500: Oops)"),
        (200, b"<html>maintenance</html>", KaggleError, "the answer was not understood"),
    ],
)
def test_a_push_that_failed_is_an_error_whatever_the_client_exits_with(
    kaggle: KaggleServer, status: int, answer: Any, kind: type[GitractError], words: str
):
    kaggle.tell("SaveKernel", (status, answer))
    with pytest.raises(GitractError) as failed:
        push_kernel(KERNELS / "inference", owner="alice")
    assert type(failed.value) is kind
    assert words in str(failed.value)
    assert "kernel alice/gitract-inference" in str(failed.value)
    assert failed.value.exit_code == (1 if kind is KaggleError else 2)


@pytest.mark.loopback
def test_an_answer_that_never_comes_is_waited_for_no_longer_than_said(kaggle: KaggleServer):
    kaggle.tell("SaveKernel", HANG)
    with pytest.raises(
        KaggleError, match="no answer from Kaggle within 4 s; it may have arrived all the same"
    ):
        push_kernel(KERNELS / "inference", owner="alice", timeout_s=4)


@pytest.mark.loopback
def test_without_credentials_the_way_to_sign_in_is_told(
    kaggle: KaggleServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("KAGGLE_USERNAME")
    monkeypatch.delenv("KAGGLE_KEY")
    with pytest.raises(PushError, match="no credentials: sign in once with `kaggle auth login`"):
        read_kernel_state(FOLDS[0])
    assert kaggle.calls == []


@pytest.mark.loopback
def test_without_the_client_the_way_to_get_it_is_told(
    kaggle: KaggleServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    (tmp_path / "kaggle.py").write_text("raise ModuleNotFoundError(\"No module named 'six'\")")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    with pytest.raises(PushError, match=r"No module named 'six'.+pip install 'gitract-kit\[kaggle\]'"):
        read_kernel_state(FOLDS[0])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KAGGLE_API_ENVIRONMENT", "PROD"),
        ("KAGGLE_API_ENVIRONMENT", None),
        ("KAGGLE_API_ENVIRONMENT", "localhost"),
        ("http_proxy", "http://192.0.2.1:80"),
        ("https_proxy", None),
        ("no_proxy", "localhost"),
        ("KAGGLE_KEY", "f" * 32),
        ("KAGGLE_API_TOKEN", "token"),
    ],
)
@pytest.mark.loopback
def test_the_client_is_not_started_where_it_could_leave_loopback(
    kaggle: KaggleServer, monkeypatch: pytest.MonkeyPatch, name: str, value: str | None
):
    if value is None:
        monkeypatch.delenv(name)
    else:
        monkeypatch.setenv(name, value)
    with pytest.raises(RuntimeError, match=f"would not stay on loopback.+{name}"):
        read_kernel_state(FOLDS[0])
    assert kaggle.calls == []


@pytest.fixture
def client_says(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts words into the mouth of the client's process, where the client itself adds nothing but time."""

    def say(stdout: str = "", **answer: Any) -> None:
        done = subprocess.CompletedProcess([], 0, stdout or json.dumps({"said": "", **answer}))
        names = {
            "run": lambda *_, **__: done,
            "TimeoutExpired": subprocess.TimeoutExpired,
            "PIPE": subprocess.PIPE,
        }
        monkeypatch.setattr(kaggle_client, "subprocess", SimpleNamespace(**names))

    return say


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        ({"kind": "http", "status": 400}, PushError, "the request itself"),
        ({"kind": "http", "status": 401}, PushError, "kaggle auth login"),
        ({"kind": "http", "status": 403}, PushError, "accept the competition's rules"),
        ({"kind": "http", "status": 404}, PushError, "no such thing on Kaggle"),
        ({"kind": "http", "status": 413}, PushError, "too large"),
        ({"kind": "http", "status": 418}, PushError, "mend what it names"),
        ({"kind": "http", "status": 429}, KaggleError, "too many requests"),
        ({"kind": "connection"}, KaggleError, "no connection to Kaggle"),
        ({"kind": "refused"}, PushError, "the client refused: Oops at https://x.y/z"),
        ({"kind": "unexpected", "type": "AttributeError"}, KaggleError, "AttributeError: Oops"),
    ],
)
def test_each_fault_of_the_client_has_its_remedy(
    client_says: Callable[..., None], fault: dict[str, Any], kind: type[GitractError], words: str
):
    client_says(fault={"message": "Oops at https://x.y/z?right=secret", **fault})
    with pytest.raises(GitractError) as failed:
        read_kernel_state(FOLDS[0])
    assert type(failed.value) is kind
    assert words in str(failed.value)
    assert "secret" not in str(failed.value)


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        ({"error": "Something new."}, PushError, "refused: Something new; mend what it names"),
        ({}, KaggleError, "neither yes nor no"),
        ({"url": "https://www.kaggle.com/code/x"}, KaggleError, "neither yes nor no"),
    ],
)
def test_an_answer_that_is_no_success_is_a_failure(
    client_says: Callable[..., None],
    dataset: Path,
    answer: dict[str, Any],
    kind: type[GitractError],
    words: str,
):
    client_says(value=answer)
    for push, folder in ((push_kernel, KERNELS / "inference"), (push_dataset, dataset)):
        with pytest.raises(kind, match=words):
            push(folder, owner="alice")


def test_a_client_that_dies_is_an_error(client_says: Callable[..., None]):
    client_says(stdout="Segmentation fault")
    with pytest.raises(KaggleError, match="ended with 0 and no answer"):
        read_kernel_state(FOLDS[0])


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        ({"message": "Not allowed: your daily limit is reached."}, PushError, "your daily limit is reached"),
        ({}, KaggleError, "neither yes nor no"),
    ],
)
def test_a_submission_that_kaggle_declines_is_an_error(
    client_says: Callable[..., None], answer: dict[str, Any], kind: type[GitractError], words: str
):
    client_says(value=answer)
    with pytest.raises(kind, match=words):
        push_submission(COMPETITION, "alice/gitract-inference", 3, "five folds")


def test_a_keyword_that_kaggle_does_not_know_is_noted(client_says: Callable[..., None]):
    client_says(value={"versionNumber": 2, "invalidTags": ["organs"]})
    pushed = push_kernel(KERNELS / "inference", owner="alice")
    assert (pushed.id, pushed.version) == ("alice/gitract-inference", 2)
    assert "note: Kaggle knows no keyword organs" in str(pushed)


def test_output_that_reaches_out_of_its_folder_is_refused(client_says: Callable[..., None], tmp_path: Path):
    client_says(value={"files": ["../../stolen"]})
    with pytest.raises(KaggleError, match="lies outside the output folder"):
        collect_output(FOLDS[0], tmp_path / "out")


class Account:
    """Kaggle without its client or a clock: two sessions, and runs that end when they have been looked at twice."""

    def __init__(self, fails: str = "", others: int = 0, without: str = "") -> None:
        self.running: dict[str, int] = {}
        self.taken: list[str] = []
        self.ended: list[str] = []
        self.most, self.fails, self.others, self.without = 0, fails, others, without
        self.bad_looks = self.bad_pushes = self.bad_outputs = 0
        self.lost_answer = ""
        self.bad: Exception = KaggleError("no connection to Kaggle")

    def ask(self, method: str, about: str, **arguments: Any) -> dict[str, Any]:
        return getattr(self, method)(**arguments)

    def push_kernel(self, folder: str, timeout_s: float) -> dict[str, Any]:
        if len(self.running) + self.others >= 2:
            self.others = 0
            return SESSIONS
        if self.taken and self.bad_pushes:
            self.bad_pushes -= 1
            raise self.bad
        kernel = json.loads((Path(folder) / "kernel-metadata.json").read_text())["id"]
        self.running[kernel] = 0
        self.taken.append(kernel)
        self.most = max(self.most, len(self.running))
        if kernel == self.lost_answer:
            raise KaggleError("no answer from Kaggle; it may have arrived all the same")
        invalid = {"invalidKernelSources": [kernel]} if kernel == self.without else {}
        return {"ref": f"/code/{kernel}", "versionNumber": 1, "url": "", **invalid}

    def kernel_status(self, kernel: str) -> dict[str, Any]:
        if kernel not in self.running:
            raise PushError("no such thing on Kaggle")
        if self.bad_looks:
            self.bad_looks -= 1
            raise KaggleError("Kaggle itself failed (502)")
        self.running[kernel] += 1
        if self.running[kernel] < 2:
            return {"status": "RUNNING", "failureMessage": None}
        del self.running[kernel]
        self.ended.append(kernel)
        return {"status": "ERROR" if kernel == self.fails else "COMPLETE", "failureMessage": None}

    def kernel_output(self, kernel: str, folder: str, timeout_s: float) -> dict[str, Any]:
        if self.bad_outputs:
            self.bad_outputs -= 1
            raise self.bad
        (Path(folder) / f"{kernel[-1]}.txt").write_text(kernel)
        return {"files": [f"{kernel[-1]}.txt"]}


@pytest.fixture
def open_account(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Account]:
    def open_one(**settings: Any) -> Account:
        account = Account(**settings)
        monkeypatch.setattr(pushing, "ask_kaggle", account.ask)
        monkeypatch.setattr(kernel_runs, "ask_kaggle", account.ask)
        return account

    return open_one


def test_five_folds_go_two_at_a_time_and_all_are_collected(
    open_account: Callable[..., Account], tmp_path: Path
):
    account = open_account(others=1)  # a session of another notebook at the start
    said: list[str] = []
    pushed = push_folds(
        KERNELS / "train", range(5), owner="alice", wait=True, output=tmp_path, poll_s=0, say=said.append
    )
    assert [one.id for one in pushed] == FOLDS
    assert account.most == 2
    assert account.ended == FOLDS
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        f"{fold}.txt": FOLDS[fold] for fold in range(5)
    }
    assert sum("trying again" in line for line in said) == 1


def test_a_fold_that_fails_does_not_keep_the_others_back(
    open_account: Callable[..., Account], tmp_path: Path
):
    account = open_account(fails=FOLDS[1])
    with pytest.raises(KaggleError, match=f"not all folds came through:\nkernel {FOLDS[1]} ERROR"):
        push_folds(KERNELS / "train", range(4), owner="alice", wait=True, output=tmp_path, poll_s=0)
    assert sorted(account.ended) == FOLDS[:4]
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize("below", ["", "runs"])
def test_an_output_folder_that_cannot_be_is_refused_before_any_fold_goes(
    open_account: Callable[..., Account], tmp_path: Path, below: str
):
    account = open_account()
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(PushError, match=r"output cannot go there .+; give another folder with --output"):
        push_folds(
            KERNELS / "train", [0], owner="alice", wait=True, output=tmp_path / "file" / below, poll_s=0
        )
    assert account.taken == []


FULL_DISK = OSError(28, "No space left on device")
ONE_BAD_MINUTE = KaggleError("no connection to Kaggle")


@pytest.mark.parametrize("bad", [FULL_DISK, ONE_BAD_MINUTE])
@pytest.mark.parametrize("times", [4, 5])
def test_an_output_that_does_not_come_is_asked_for_again(
    open_account: Callable[..., Account], tmp_path: Path, bad: Exception, times: int
):
    account = open_account()
    account.bad, account.bad_outputs = bad, times
    said: list[str] = []
    how = {"owner": "alice", "wait": True, "output": tmp_path, "poll_s": 0, "say": said.append}
    if times == 4:
        push_folds(KERNELS / "train", [0], **how)
        assert (tmp_path / "0.txt").read_text() == FOLDS[0]
        assert sum("(collecting again)" in line for line in said) == 4
    else:
        with pytest.raises(KaggleError, match=f"its output is not here: .*{re.escape(str(bad))}") as failed:
            push_folds(KERNELS / "train", [0], **how)
        assert f"kernel {FOLDS[0]} COMPLETE" in str(failed.value)
        assert f"`kaggle kernels output {FOLDS[0]} -p {tmp_path}`" in str(failed.value)


def test_a_run_to_be_collected_again_holds_no_session(open_account: Callable[..., Account], tmp_path: Path):
    account = open_account()
    account.bad_outputs = 8  # four for each of the first two folds
    push_folds(KERNELS / "train", range(5), owner="alice", wait=True, output=tmp_path, poll_s=0)
    assert account.ended == FOLDS
    assert account.most == 2
    assert len(list(tmp_path.iterdir())) == 5


@pytest.mark.parametrize("bad", [FULL_DISK, ONE_BAD_MINUTE])
@pytest.mark.parametrize("times", [4, 5])
def test_a_push_that_fails_is_tried_again_before_folds_are_given_up(
    open_account: Callable[..., Account], bad: Exception, times: int
):
    account = open_account()
    account.bad, account.bad_pushes = bad, times
    said: list[str] = []
    how = {"owner": "alice", "wait": True, "poll_s": 0, "say": said.append}
    if times == 4:
        pushed = push_folds(KERNELS / "train", range(4), **how)
        assert [one.id for one in pushed] == account.ended == FOLDS[:4]
    else:
        with pytest.raises(KaggleError, match=f"{re.escape(str(bad))} .folds not pushed: 1, 2, 3"):
            push_folds(KERNELS / "train", range(4), **how)
        assert account.ended == FOLDS[:1]
    assert sum("(trying again)" in line for line in said) == 4


def test_a_push_that_arrived_without_an_answer_is_not_made_twice(open_account: Callable[..., Account]):
    account = open_account()
    account.lost_answer = FOLDS[1]
    pushed = push_folds(KERNELS / "train", range(3), owner="alice", wait=True, poll_s=0)
    assert account.taken == [one.id for one in pushed] == FOLDS[:3]
    assert "the kernel is RUNNING: taken for pushed" in str(pushed[1])


def test_a_fold_that_kaggle_took_without_a_source_is_told_as_pushed_and_the_others_go_on(
    open_account: Callable[..., Account], tmp_path: Path
):
    account = open_account(without=FOLDS[1], fails=FOLDS[1])
    said: list[str] = []
    with pytest.raises(KaggleError) as failed:
        push_folds(
            KERNELS / "train", range(4), owner="alice", wait=True, output=tmp_path, poll_s=0, say=said.append
        )
    told = f"kernel {FOLDS[1]}: pushed as version 1, but without kernel {FOLDS[1]}"
    assert told in str(failed.value)
    assert "not pushed" not in str(failed.value)
    assert any(line.startswith(told) for line in said)
    assert sorted(account.ended) == FOLDS[:4]
    assert len(list(tmp_path.iterdir())) == 4  # the log of the run at fault, too


@pytest.mark.parametrize("bad_looks", [4, 5])
def test_a_wait_outlives_some_bad_looks_in_a_row(open_account: Callable[..., Account], bad_looks: int):
    account = open_account()
    account.running[FOLDS[0]], account.bad_looks = 0, bad_looks
    if bad_looks == 4:
        assert wait_for_kernel(FOLDS[0], poll_s=0).status == "COMPLETE"
    else:
        with pytest.raises(KaggleError, match="502"):
            wait_for_kernel(FOLDS[0], poll_s=0)


def test_a_run_that_does_not_end_is_given_up(open_account: Callable[..., Account]):
    open_account().running[FOLDS[0]] = -10
    with pytest.raises(KaggleError, match=r"RUNNING, after 0\.0 h; see https://www.kaggle.com/code/alice"):
        wait_for_kernel(FOLDS[0], poll_s=0, limit_s=0)


@pytest.mark.parametrize(
    ("folds", "words"),
    [([0, 1, 2], "3 folds, but 2 GPU sessions"), ([1, 1], "different numbers"), ([], "different")],
)
def test_folds_that_cannot_go_are_refused_before_any_goes(
    open_account: Callable[..., Account], folds: list[int], words: str
):
    account = open_account()
    with pytest.raises(PushError, match=words):
        push_folds(KERNELS / "train", folds, owner="alice")
    assert account.running == {}


def test_the_placeholder_owner_is_refused_before_anything_goes(
    open_account: Callable[..., Account], dataset: Path
):
    account = open_account()
    for push, folder in ((push_kernel, KERNELS / "inference"), (push_dataset, dataset)):
        with pytest.raises(PushError, match="--owner NAME"):
            push(folder)
    assert account.running == {}


@pytest.mark.loopback
def test_train_kernels_go_on_from_their_own_output(kaggle: KaggleServer):
    push_folds(KERNELS / "train", [1, 2], owner="alice", resume=True)

    assert [call.body["kernelDataSources"] for call in kaggle.calls] == [[FOLDS[1]], [FOLDS[2]]]
    # which the notebook looks for under the same name
    assert all('f"alice/gitract-train-fold-{FOLD}"' in cell_text(call) for call in kaggle.calls)


def cell_text(call) -> str:
    return "".join(cell["source"] for cell in json.loads(call.body["text"])["cells"])


def test_a_kernel_that_looks_for_no_output_cannot_go_on(tmp_path: Path):
    with pytest.raises(
        PushError, match=r"looks for the output of alice/gitract-inference, which --resume mounts"
    ):
        push_kernel(KERNELS / "inference", owner="alice", resume=True)
