"""Preflight: each rule of Kaggle's broken once, and named before anything goes."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitract_kit.errors import PushError
from gitract_kit.shipping import credentials, preflight
from gitract_kit.shipping.credentials import find_credentials
from gitract_kit.shipping.fold_runs import parse_folds
from gitract_kit.shipping.kaggle import packed_dataset, packed_kernel
from gitract_kit.shipping.kaggle_metadata import slugify, write_dataset_metadata
from gitract_kit.shipping.kernel import render_kernel
from gitract_kit.shipping.preflight import check_dataset, check_kernel

KERNELS = Path(__file__).resolve().parents[2] / "kernels"
KERNEL = {
    "id": "alice/gitract-inference",
    "title": "gitract inference",
    "code_file": "inference.ipynb",
    "language": "python",
    "kernel_type": "notebook",
    "is_private": True,
    "enable_gpu": True,
    "enable_tpu": False,
    "enable_internet": False,
    "machine_shape": "NvidiaTeslaT4",
    "dataset_sources": ["alice/gitract-weights", "bob/wheels/3"],
    "competition_sources": ["uw-madison-gi-tract-image-segmentation"],
    "kernel_sources": ["alice/gitract-train-fold-0"],
    "model_sources": ["google/resnet/pyTorch/50/1"],
    "keywords": ["gpu"],
}
DATASET = {"title": "gitract weights", "id": "alice/gitract-weights", "licenses": [{"name": "CC0-1.0"}]}
MISSING = object()


def changed(metadata: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """``metadata`` with ``changes``; a key whose value is MISSING is left out."""
    return {key: value for key, value in {**metadata, **changes}.items() if value is not MISSING}


def write_kernel(folder: Path, *sources: str, outputs: bool = False, **changes: Any) -> Path:
    """A kernel that Kaggle takes, but for ``changes`` to its metadata."""
    folder.mkdir(exist_ok=True)
    ran = {
        "outputs": [{"output_type": "stream"}] if outputs else [],
        "execution_count": 1 if outputs else None,
    }
    cells = [
        {"cell_type": "code", "metadata": {}, "source": source, **ran} for source in sources or ["print(1)"]
    ]
    notebook = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells}
    (folder / "inference.ipynb").write_text(json.dumps(notebook))
    (folder / "kernel-metadata.json").write_text(json.dumps(changed(KERNEL, changes)))
    return folder


def write_dataset(folder: Path, **changes: Any) -> Path:
    """A dataset that Kaggle takes, but for ``changes`` to its metadata."""
    folder.mkdir(exist_ok=True)
    (folder / "fold_0.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}      weights")
    (folder / "dataset-metadata.json").write_text(json.dumps(changed(DATASET, changes)))
    return folder


def zipped(**files: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return content.getvalue()


def tarred() -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("empty"))
    return content.getvalue()


def test_a_sound_kernel_passes_and_says_what_would_go(tmp_path: Path):
    folder = write_kernel(tmp_path / "kernel")
    (folder / "notes.txt").write_text("mine")
    parcel = check_kernel(folder)
    assert [path.name for path in parcel.sent] == ["inference.ipynb"]
    assert parcel.size == (folder / "inference.ipynb").stat().st_size
    shown = str(parcel)
    for words in (
        "kernel alice/gitract-inference",
        "enable_internet false",
        "keeps back notes.txt",
        "bob/wheels/3",
    ):
        assert words in shown


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"enable_internet": MISSING}, "enable_internet is missing, which means ON"),
        ({"enable_internet": True}, "only from kernels without it"),
        ({"enable_internet": "True"}, "only from kernels without it"),
        ({"enable_internet": 0}, "enable_internet is 0, expected true or false"),
        ({"enable_gpu": "yes"}, "enable_gpu is 'yes'"),
        ({"enable_tpu": True}, "enable_gpu and enable_tpu are both true"),
        (
            {"enable_internt": False},
            "unknown key 'enable_internt', which Kaggle ignores: did you mean 'enable_internet'",
        ),
        ({"id": "gitract-inference"}, "expected 'OWNER/SLUG'"),
        ({"id": MISSING}, "id is None"),
        ({"id": "alice/gitract_inference"}, "slug 'gitract_inference'"),
        ({"id": "alice/Gitract-Inference"}, "expected lower-case"),
        ({"id": "al ice/gitract-inference"}, "owner 'al ice'"),
        ({"id": "alice/gitr", "title": "gitr"}, "the kernel's slug has 4 characters, expected 5 to 50"),
        ({"id": "your-kaggle-name/gitract-inference"}, "--owner NAME"),
        ({"title": "gitr"}, "title has 4 characters, expected 5 to 50"),
        ({"title": "gitract " * 7}, "title has 56 characters"),
        ({"title": "another name"}, "makes the slug 'another-name', but the id says 'gitract-inference'"),
        ({"title": "gitract inférence"}, "beyond ASCII"),
        ({"language": "r"}, "language is 'r'"),
        ({"kernel_type": "nb"}, "kernel_type is 'nb'"),
        ({"kernel_type": "script"}, "expected the name of a .py file"),
        ({"code_file": "elsewhere.ipynb"}, "the code_file elsewhere.ipynb is not in the folder"),
        ({"code_file": "../kernel/inference.ipynb"}, "expected the name of a .ipynb file beside"),
        ({"machine_shape": "NvidiaTeslaP100"}, "'NvidiaTeslaP100' is retired"),
        ({"dataset_sources": ["weights"]}, "dataset_sources has 'weights', expected OWNER/SLUG"),
        ({"dataset_sources": "alice/weights"}, "expected a list"),
        ({"dataset_sources": ["your-kaggle-name/weights"]}, "--owner NAME"),
        ({"dataset_sources": ["alice/gitract-inference"]}, "shares its id"),
        ({"kernel_sources": ["alice/nb"]}, "at least 5 characters"),
        ({"model_sources": ["google/resnet/pyTorch"]}, "model_sources has 'google/resnet/pyTorch'"),
        ({"model_sources": ["google/resnet/pyTorch/50/1/2"]}, "OWNER/MODEL/FRAMEWORK/VARIATION"),
        ({"competition_sources": ["competitions/uw-madison"]}, "the competition's bare SLUG"),
        ({"keywords": "gpu"}, "keywords is 'gpu'"),
    ],
)
def test_a_kernel_that_kaggle_would_refuse_is_refused_here(tmp_path: Path, changes: dict, words: str):
    folder = write_kernel(tmp_path / "kernel", **changes)
    with pytest.raises(PushError) as refused:
        check_kernel(folder)
    assert words in str(refused.value)
    assert refused.value.exit_code == 2


@pytest.mark.parametrize("model", ["google/resnet/pyTorch/50", "google/resnet/pyTorch/50/1"])
def test_model_sources_have_four_or_five_parts(tmp_path: Path, model: str):
    check_kernel(write_kernel(tmp_path / "kernel", model_sources=[model]))


def test_every_fault_is_listed_at_once(tmp_path: Path):
    folder = write_kernel(
        tmp_path / "kernel", enable_internet=MISSING, title="other title", keywords=[""], outputs=True
    )
    with pytest.raises(PushError, match=r"4 faults:(\n  - .+){4}$"):
        check_kernel(folder)


def test_a_training_kernel_may_reach_the_internet_but_must_say_so(tmp_path: Path):
    check_kernel(write_kernel(tmp_path / "kernel", "FOLD = 0", enable_internet=True))
    with pytest.raises(PushError, match="enable_internet is missing"):
        check_kernel(write_kernel(tmp_path / "kernel", "FOLD = 0", enable_internet=MISSING))


def test_a_notebook_that_was_run_is_refused(tmp_path: Path):
    with pytest.raises(PushError, match="2 cells hold outputs of an earlier run"):
        check_kernel(write_kernel(tmp_path / "kernel", "1", "2", outputs=True))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is not a notebook"),
        ('{"nbformat": 4}', "no list of cells"),
        ('{"nbformat": 3, "cells": []}', "format 3"),
    ],
)
def test_a_file_that_is_no_notebook_is_refused(tmp_path: Path, content: str, words: str):
    folder = write_kernel(tmp_path / "kernel")
    (folder / "inference.ipynb").write_text(content)
    with pytest.raises(PushError, match=words):
        check_kernel(folder)


def test_a_script_is_one_file_without_magics(tmp_path: Path):
    folder = write_kernel(tmp_path / "kernel", kernel_type="script", code_file="inference.py")
    (folder / "inference.py").write_text("print(1)\n")
    check_kernel(folder)
    (folder / "inference.py").write_text("!pip install x\n")
    (folder / "model.py").write_text("")
    with pytest.raises(PushError, match=r"model.py stand beside it(.|\n)+use subprocess"):
        check_kernel(folder)


def test_a_kernel_too_large_for_kaggle_is_refused(tmp_path: Path):
    with pytest.raises(PushError, match="expected at most 1,000,000"):
        check_kernel(write_kernel(tmp_path / "kernel", "#" * 1_000_001))


@pytest.mark.parametrize("name", ["train", "inference"])
def test_the_kits_own_kernels_pass_once_they_have_an_owner(tmp_path: Path, name: str):
    with pytest.raises(PushError, match=r"placeholder owner 'your-kaggle-name'.+--owner NAME"):
        check_kernel(KERNELS / name)
    with packed_kernel(KERNELS / name, owner="alice") as parcel:
        assert parcel.id.startswith("alice/gitract-")
        assert b"your-kaggle-name" not in parcel.sent[0].read_bytes()


def test_a_rendered_fold_differs_in_its_name_and_its_fold_alone(tmp_path: Path):
    source = "# FOLD = 9 stays\nFOLD = 0  # here\nprint(FOLD)"
    folder = write_kernel(tmp_path / "kernel", source, "print('FOLD = 0')", title="gitract inference")
    plain, fold = (render_kernel(folder, tmp_path / f"{k}", fold=k) for k in (0, 3))
    assert json.loads((fold / "kernel-metadata.json").read_text()) == {
        **KERNEL,
        "id": "alice/gitract-inference-fold-3",
        "title": "gitract inference fold 3",
    }
    text = (plain / "inference.ipynb").read_text()
    assert (fold / "inference.ipynb").read_text() == text.replace("\\nFOLD = 0", "\\nFOLD = 3")


def test_a_fold_in_the_name_gives_way_to_the_next(tmp_path: Path):
    names = {"id": "alice/gitract-train-fold-0", "title": "gitract train fold 0"}
    folder = write_kernel(tmp_path / "kernel", "FOLD = 0", **names)
    metadata = json.loads(
        (render_kernel(folder, tmp_path / "out", fold=4) / "kernel-metadata.json").read_text()
    )
    assert (metadata["id"], metadata["title"]) == ("alice/gitract-train-fold-4", "gitract train fold 4")


@pytest.mark.parametrize("sources", [["print(1)"], ["FOLD = 0", "FOLD = 1"], ["FOLD = 0\nFOLD = 1"]])
def test_a_fold_needs_exactly_one_place(tmp_path: Path, sources: list[str]):
    with pytest.raises(PushError, match="expected exactly one"):
        render_kernel(write_kernel(tmp_path / "kernel", *sources), tmp_path / "out", fold=1)


@pytest.mark.parametrize(
    ("owner", "words"), [("bob", "the id's owner is 'alice', not 'bob'"), ("a b", "no Kaggle name")]
)
def test_an_owner_takes_nobodys_place(tmp_path: Path, owner: str, words: str):
    with pytest.raises(PushError, match=words):
        render_kernel(write_kernel(tmp_path / "kernel"), tmp_path / "out", owner=owner)


@pytest.mark.parametrize("sources", [1, None, "alice/gitract-inference"])
def test_a_kernels_own_output_joins_a_list_of_sources(tmp_path: Path, sources: object):
    folder = write_kernel(tmp_path / "kernel", "EARLIER = 'alice/gitract-inference'", kernel_sources=sources)
    with pytest.raises(
        PushError, match=r"kernel-metadata\.json: kernel_sources is .*, expected a list of OWNER"
    ):
        render_kernel(folder, tmp_path / "out", resume=True)


def test_a_sound_dataset_passes_and_says_what_would_go(tmp_path: Path):
    folder = write_dataset(tmp_path / "weights")
    (folder / "wheel-1-py3-none-any.whl").write_bytes(zipped(a=b"1"))
    (folder / "kernel-metadata.json").write_text("{}")
    parcel = check_dataset(folder)
    assert [path.name for path in parcel.sent] == ["fold_0.safetensors", "wheel-1-py3-none-any.whl"]
    assert "keeps back kernel-metadata.json" in str(parcel)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"id": "your-kaggle-name/gitract-weights"}, "--owner NAME"),
        ({"id": "alice/w-123"}, "the dataset's slug has 5 characters, expected 6 to 50"),
        ({"id": "alice/gitract_weights"}, "slug 'gitract_weights'"),
        ({"id": "alice/" + "w" * 51}, "has 51 characters"),
        ({"title": "short"}, "title has 5 characters, expected 6 to 50"),
        ({"title": 7}, "title is 7"),
        ({"licenses": MISSING}, "no licenses"),
        ({"licenses": []}, "0 licences, expected exactly one"),
        ({"licenses": [{"name": "CC0-1.0"}, {"name": "other"}]}, "2 licences, expected exactly one"),
        ({"licenses": [{}]}, "the licence has no name"),
        ({"subtitle": "too short"}, "subtitle has 9 characters, expected 20 to 80"),
        ({"subtitle": "s" * 81}, "subtitle has 81 characters"),
        ({"license": []}, "did you mean 'licenses'"),
    ],
)
def test_a_dataset_that_kaggle_would_refuse_is_refused_here(tmp_path: Path, changes: dict, words: str):
    with pytest.raises(PushError) as refused:
        check_dataset(write_dataset(tmp_path / "weights", **changes))
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("model.pt", b"anything", "Kaggle takes .pt files apart"),
        ("model.pth", zipped(data=b"1"), "Kaggle takes .pth files apart"),
        ("arrays.npz", zipped(data=b"1"), "begins like a zip"),
        ("renamed.safetensors", zipped(data=b"1"), "begins like a zip"),
        ("package-1.0.tar.gz", b"\x1f\x8b", "Kaggle unpacks archives"),
        ("plain.bin", tarred(), "Kaggle unpacks archives"),
        ("kaggle.json", b"{}", "its name is that of a file with credentials"),
    ],
)
def test_files_that_must_not_travel_are_refused(tmp_path: Path, name: str, content: bytes, words: str):
    folder = write_dataset(tmp_path / "weights")
    (folder / name).write_bytes(content)
    with pytest.raises(PushError) as refused:
        check_dataset(folder)
    assert f"{name}: {words}" in str(refused.value)


def test_subfolders_are_refused_without_a_mode_and_searched_with_one(tmp_path: Path):
    folder = write_dataset(tmp_path / "weights")
    (folder / "run").mkdir()
    (folder / "run" / "model.txt").write_text("fine")
    with pytest.raises(PushError, match="subfolders are dropped without a word: run; push with -r zip"):
        check_dataset(folder)
    assert [path.name for path in check_dataset(folder, dir_mode="zip").sent] == ["fold_0.safetensors", "run"]
    (folder / "run" / "model.pt").write_bytes(b"")
    with pytest.raises(PushError, match=r"model.pt: Kaggle takes .pt files apart"):
        check_dataset(folder, dir_mode="tar")
    with pytest.raises(PushError, match="-r is 'rar', expected zip or tar"):
        check_dataset(folder, dir_mode="rar")


def test_a_dataset_without_files_or_with_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = write_dataset(tmp_path / "weights")
    monkeypatch.setattr(preflight, "MAX_DATASET_BYTES", 5)
    monkeypatch.setattr(preflight, "MAX_FILES", 0)
    with pytest.raises(PushError, match=r"1 files, expected at most 0(.|\n)+expected at most 0 GB"):
        check_dataset(folder)
    (folder / "fold_0.safetensors").unlink()
    (folder / "lost").symlink_to(folder / "nowhere")
    with pytest.raises(PushError, match="lost leads nowhere"):
        check_dataset(folder)
    (folder / "lost").unlink()
    with pytest.raises(PushError, match="no files"):
        check_dataset(folder)


@pytest.mark.parametrize("content", [None, "{", "[]"])
def test_metadata_that_is_no_json_object_is_refused(tmp_path: Path, content: str | None):
    if content is not None:
        (tmp_path / "dataset-metadata.json").write_text(content)
    with pytest.raises(PushError, match=r"dataset-metadata.json: (cannot be read|is not JSON|holds a list)"):
        check_dataset(tmp_path)


def test_written_metadata_makes_a_dataset_for_whoever_pushes_it(tmp_path: Path):
    folder = write_dataset(tmp_path / "weights")
    write_dataset_metadata(folder, "gitract-weights", subtitle="Five folds of a 2.5D U-Net")
    with pytest.raises(PushError, match="--owner NAME"):
        check_dataset(folder)
    with packed_dataset(folder, owner="alice") as parcel:
        assert (parcel.id, parcel.title) == ("alice/gitract-weights", "gitract weights")
        assert parcel.sent[0].read_bytes() == (folder / "fold_0.safetensors").read_bytes()
    assert "your-kaggle-name" in (folder / "dataset-metadata.json").read_text()


def test_a_rendered_dataset_is_searched_through_its_links_and_named_by_its_own_folder(tmp_path: Path):
    folder = write_dataset(tmp_path / "weights", id="your-kaggle-name/gitract-weights")
    (folder / "run").mkdir()
    (folder / "run" / "model.pt").write_bytes(b"")
    with (
        pytest.raises(PushError, match=rf"the dataset in {folder} was not pushed, 1 fault:\n  - model.pt: "),
        packed_dataset(folder, owner="alice", dir_mode="zip"),
    ):
        pass


def test_metadata_that_kaggle_would_refuse_is_not_written(tmp_path: Path):
    with pytest.raises(PushError, match="was not written: the dataset's slug has 3 characters"):
        write_dataset_metadata(tmp_path, "abc", title="long enough")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("token = 'KGAT_" + "a1" * 16 + "'", "a Kaggle API token"),
        ("KAGGLE_API_TOKEN=" + "a1" * 16, "a Kaggle API token"),
        ('os.environ["KAGGLE_KEY"] = "' + "a1" * 16 + '"', "a Kaggle key"),
        ('{"username": "alice", "key": "' + "a1" * 16 + '"}', "a Kaggle key"),
        ("login('hf_" + "Ab" * 17 + "')", "a Hugging Face token"),
        ("ghp_" + "A1" * 18, "a GitHub token"),
        ("github_pat_" + "A1_" * 20, "a GitHub token"),
        ("WANDB_API_KEY: " + "0f" * 20, "a Weights & Biases key"),
        ("aws AKIA" + "Q2" * 8, "an AWS key"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----", "a private key"),
    ],
)
def test_credentials_are_found_in_text_and_in_notebooks_and_never_shown(tmp_path: Path, text: str, what: str):
    path = tmp_path / "notes.txt"
    path.write_text(f"one\ntwo\n{text}\n")
    assert find_credentials(path) == [f"{what} in line 3"]
    folder = write_kernel(tmp_path / "kernel", f"x = 1\n{text}")
    with pytest.raises(PushError, match=f"inference.ipynb: {what} in line 1; remove it") as refused:
        check_kernel(folder)
    assert text not in str(refused.value)


@pytest.mark.parametrize(
    "text", ["KAGGLE_KEY", '"key": "sha"', "hf_hub_offline", "KGAT_", '"sha256": "' + "0f" * 32 + '"']
)
def test_words_about_credentials_are_none(tmp_path: Path, text: str):
    (tmp_path / "notes.txt").write_text(text)
    assert find_credentials(tmp_path / "notes.txt") == []


@pytest.mark.parametrize("before", range(480, 560, 7))
def test_credentials_across_the_edge_of_a_block_are_found_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: int
):
    monkeypatch.setattr(credentials, "_BLOCK", 512)
    (tmp_path / "weights").write_bytes(b"\n" * before + b"hf_" + b"Ab" * 17 + b"\n" * 900)
    assert find_credentials(tmp_path / "weights") == [f"a Hugging Face token in line {before + 1}"]


@given(st.text("abcXYZ0189 -_.,'()", max_size=40))
def test_slugs_are_those_of_the_official_client(title: str):
    slug = pytest.importorskip("slugify", reason="comes with the official client").slugify
    assert slugify(title) == slug(title)


def test_folds_are_named_one_by_one_or_as_ranges():
    assert parse_folds(["0..2", "4"]) == [0, 1, 2, 4]
    assert parse_folds(["3"]) == [3]
    with pytest.raises(PushError, match=r"expected a number, or a range like 0\.\.4"):
        parse_folds(["0-4"])
