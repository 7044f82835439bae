"""A folder that travels proves that it arrived whole."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import pytest

from gitract_kit.errors import BundleError, DatasetError, PushError
from gitract_kit.shipping.dataset import describe_bundle, write_dataset_files
from gitract_kit.shipping.preflight import check_dataset
from gitract_kit.shipping.verify import verify_folder


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A bundle by its manifest: nothing here loads the weights."""
    folder = tmp_path / "weights"
    folder.mkdir()
    members = []
    for fold, content in enumerate((b"first weights", b"second weights")):
        name = f"fold_{fold}.safetensors"
        (folder / name).write_bytes(content)
        about = {"role": "segment", "weight": 1.0, "fold": fold, "epoch": 1, "score": {}, "settings": {}}
        digest = sha256(content).hexdigest()
        members.append({"weights": name, "sha256": digest, "bytes": len(content), **about})
    manifest = {
        "format": 1,
        "name": "made-up",
        "layout": "uw-madison",
        "organs": ["stomach"],
        "prediction": {},
    }
    (folder / "bundle.json").write_text(json.dumps({**manifest, "members": members, "versions": {}}))
    write_dataset_files(folder, "gitract-weights", "Made up.")
    return folder


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    folder = tmp_path / "wheels"
    folder.mkdir()
    (folder / "piece-1.0-py3-none-any.whl").write_bytes(b"PK\x03\x04 a wheel")
    digest = sha256(b"PK\x03\x04 a wheel").hexdigest()
    entry = {"file": "piece-1.0-py3-none-any.whl", "sha256": digest}
    beside = {"requirements.lock": f"piece==1.0 --hash=sha256:{digest}\n", "install.py": "install()\n"}
    for name, text in beside.items():
        (folder / name).write_text(text)
    files = {name: sha256(text.encode()).hexdigest() for name, text in beside.items()}
    (folder / "wheels.json").write_text(json.dumps({"wheels": [entry], "files": files}))
    write_dataset_files(folder, "gitract-wheels", "Made up.")
    return folder


def test_a_whole_bundle_passes(weights):
    report = verify_folder(weights)

    assert (report.kind, report.files) == ("bundle", ("fold_0.safetensors", "fold_1.safetensors"))
    assert report.total_bytes == len(b"first weights") + len(b"second weights")
    assert "bundle, 2 files, 0.0 MB, each as it was written" in str(report)


def test_a_bundle_without_a_datasets_files_passes(weights):
    (weights / "dataset-metadata.json").unlink()
    (weights / "README.md").unlink()

    verify_folder(weights)


def test_whole_wheels_pass(wheels):
    assert verify_folder(wheels).kind == "wheels"


def test_every_fault_of_a_bundle_is_told_at_once(weights):
    (weights / "fold_0.safetensors").write_bytes(b"first weight.")
    (weights / "fold_1.safetensors").unlink()
    (weights / "notes.txt").touch()
    with pytest.raises(BundleError) as caught:
        verify_folder(weights)

    message = str(caught.value)
    assert "fold_0.safetensors: its sha256 is" in message
    assert "fold_1.safetensors is missing: copy it again" in message
    assert "notes.txt is not of this folder: remove it" in message


@pytest.mark.parametrize("name", ["piece-1.0-py3-none-any.whl", "requirements.lock", "install.py"])
def test_an_altered_or_missing_file_of_wheels_is_told(wheels, name):
    (wheels / name).write_bytes(b"another")
    with pytest.raises(DatasetError, match=rf"{name}: its sha256 is"):
        verify_folder(wheels)
    (wheels / name).unlink()
    with pytest.raises(DatasetError, match=rf"{name} is missing: copy it again"):
        verify_folder(wheels)


@pytest.mark.parametrize("text", ["[]", "{", "{}", '{"wheels": [1]}', '{"wheels": []}'])
def test_a_manifest_of_wheels_that_is_none_is_told(wheels, text):
    (wheels / "wheels.json").write_text(text)
    with pytest.raises((BundleError, DatasetError), match=r"wheels\.json: .*write it again"):
        verify_folder(wheels)


def test_a_hash_of_wheels_that_is_no_text_is_told(wheels):
    manifest = json.loads((wheels / "wheels.json").read_text())
    manifest["wheels"][0]["sha256"] = None
    (wheels / "wheels.json").write_text(json.dumps(manifest))
    with pytest.raises(DatasetError, match=r"holds a name or sha256 that is no text"):
        verify_folder(wheels)


def test_another_folder_is_refused(tmp_path):
    with pytest.raises(
        DatasetError, match=r"holds neither bundle\.json nor wheels\.json; give what `gitract bundle`"
    ):
        verify_folder(tmp_path)


def test_a_bundle_becomes_a_dataset_that_kaggle_takes(weights):
    describe_bundle(weights)
    path = weights / "dataset-metadata.json"
    path.write_text(path.read_text().replace("your-kaggle-name", "someone"))

    assert check_dataset(weights).id == "someone/gitract-weights"
    assert "| fold_1.safetensors | segment | 1 | 1 | unknown |" in (weights / "README.md").read_text()
    verify_folder(weights)


def test_a_slug_that_kaggle_refuses_is_not_written(tmp_path):
    with pytest.raises(PushError, match="no_underscore"):
        write_dataset_files(tmp_path, "no_underscore", "Made up.")
    assert list(tmp_path.iterdir()) == []


def dataset_slug(folder: Path) -> str:
    return json.loads((folder / "dataset-metadata.json").read_text())["id"].partition("/")[2]


def test_bundles_that_go_together_are_datasets_of_their_own(weights):
    (weights / "dataset-metadata.json").unlink()
    describe_bundle(weights)
    assert dataset_slug(weights) == "gitract-weights"

    (weights / "dataset-metadata.json").unlink()
    manifest = (weights / "bundle.json").read_text()
    (weights / "bundle.json").write_text(manifest.replace('"segment"', '"gate"'))
    describe_bundle(weights)
    assert dataset_slug(weights) == "gitract-gate"


def test_a_bundle_made_again_stays_the_dataset_that_it_was(weights):
    describe_bundle(weights, slug="gitract-second")
    describe_bundle(weights)

    assert dataset_slug(weights) == "gitract-second"
