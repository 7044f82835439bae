"""Whatever bytes lie in what a notebook reads: only the kit's own errors come out, and nothing is executed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from blob_scans import see_through, write_sample, write_scan
from safetensors.torch import save

from gitract_kit.competition.layout import ORGANS
from gitract_kit.competition.submission import read_submission
from gitract_kit.errors import BundleError, GitractError
from gitract_kit.inference.predictor import Predictor
from gitract_kit.models import create_model
from gitract_kit.settings import (
    GeometrySettings,
    ModelSettings,
    PredictionSettings,
    Settings,
    settings_to_dict,
)
from gitract_kit.shipping.bundle import create_bundle, load_bundle

SEEDS = range(12)
SETTINGS = PredictionSettings(tta="none", min_component_px=0)


@pytest.fixture(scope="module")
def whole_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("fuzz") / "root"
    write_sample(root_with(root), [f"case7_day3_slice_{number:04d}" for number in range(1, 4)])
    return root


def root_with(root: Path) -> Path:
    write_scan(root / "test", "case7_day3", slices=[1, 2, 3], shape=(20, 24))
    return root


def mutate(content: bytes, random: np.random.Generator) -> bytes:
    """One of: bits flipped, a piece cut out, a piece doubled, random bytes put in, random bytes alone."""
    data = np.frombuffer(content, dtype=np.uint8)
    start, stop = sorted(random.integers(0, len(data) + 1, 2).tolist())
    noise = random.integers(0, 256, 40).astype(np.uint8)
    kind = random.integers(5)
    if kind == 0:
        data = data.copy()
        data[random.integers(0, len(data), 5)] ^= np.uint8(1) << random.integers(0, 8, 5).astype(np.uint8)
    elif kind == 1:
        data = np.concatenate([data[:start], data[stop:]])
    elif kind == 2:
        data = np.concatenate([data[:stop], data[start:]])
    elif kind == 3:
        data = np.concatenate([data[:start], noise, data[start:]])
    else:
        data = noise
    return data.tobytes()


def survives(call: Callable[[], object]) -> bool:
    """Whether ``call`` went through; an error of the kit with a message is the only other way out."""
    try:
        call()
    except GitractError as error:
        message = str(error)
    else:
        return True
    assert message
    return False


@pytest.mark.parametrize("rerun", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("target", ["slice", "sample"])
def test_mutated_inputs_give_typed_errors_or_a_submission(whole_root, tmp_path, target, seed, rerun):
    root = shutil.copytree(whole_root, tmp_path / "root")
    random = np.random.default_rng(seed)
    path = root / "sample_submission.csv"
    if target == "slice":
        path = sorted(root.rglob("*.png"))[seed % 3]
    path.write_bytes(mutate(path.read_bytes(), random))
    output = tmp_path / "submission.csv"
    predictor = Predictor([see_through()], SETTINGS)
    survives(lambda: predictor.predict(root, output, rerun=rerun, progress=False))
    if output.exists():
        assert set(read_submission(output)["class"]) <= set(ORGANS)
    else:
        assert target == "sample"


STRANGE_NAMES = [
    "slice_0004_24_20_1.50_1.50.png.exe",
    "slice_0004_99999_99999_1.50_1.50.png",
    "slice_-004_24_20_1.50_1.50.png",
    "slice_0004_24_20_nan_inf.png",
    "slice_\N{ARABIC-INDIC DIGIT ONE}004_24_20_1.50_1.50.png",
    "__import__('os').system('true').png",
    "a.zip",
]


@pytest.mark.parametrize("name", STRANGE_NAMES)
def test_files_with_strange_names_are_named_and_not_followed(whole_root, tmp_path, name):
    root = shutil.copytree(whole_root, tmp_path / "root")
    (root / "test" / "case7" / "case7_day3" / "scans" / name).write_bytes(b"PK\x03\x04\x80\x04")
    predictor = Predictor([see_through()], SETTINGS)
    with pytest.raises(GitractError):
        predictor.predict(root, tmp_path / "submission.csv", rerun=False, progress=False)
    assert not any(read_submission(tmp_path / "submission.csv").predicted)


PICKLE = b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x0etouch executed\x85R."
XML = b"<!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/passwd'>]><x>&e;</x>"


@pytest.mark.parametrize("content", [PICKLE, XML, b"PK\x03\x04" + b"\0" * 60], ids=["pickle", "xml", "zip"])
@pytest.mark.parametrize("name", ["sample_submission.csv", "slice"])
def test_no_input_is_executed(whole_root, tmp_path, monkeypatch, content, name):
    monkeypatch.chdir(tmp_path)
    root = shutil.copytree(whole_root, tmp_path / "root")
    path = next(root.rglob("*.png")) if name == "slice" else root / name
    path.write_bytes(content)
    predictor = Predictor([see_through()], SETTINGS)
    assert not survives(lambda: predictor.predict(root, tmp_path / "submission.csv", progress=False))
    assert not (tmp_path / "executed").exists()


@pytest.fixture(scope="module")
def whole_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = ModelSettings(encoder="tu-resnet10t", encoder_depth=3, decoder_channels=(16, 8, 8))
    settings = Settings(model=model, geometry=GeometrySettings(height=64, width=64))
    run = tmp_path_factory.mktemp("run")
    (run / "fold_0").mkdir()
    torch.manual_seed(0)
    content = save(create_model(model, in_channels=3, classes=3).state_dict())
    (run / "fold_0" / "model.safetensors").write_bytes(content)
    about = {
        "format": 1,
        "settings": settings_to_dict(settings),
        "fold": 0,
        "epoch": 1,
        "score": {},
        "sha256": sha256(content).hexdigest(),
    }
    (run / "fold_0" / "model.json").write_text(json.dumps(about))
    return create_bundle(run, run / "bundle")


@pytest.mark.parametrize("seed", range(30))
def test_mutated_manifest_gives_a_bundle_error_or_a_bundle(whole_bundle, tmp_path, seed):
    folder = shutil.copytree(whole_bundle, tmp_path / "bundle")
    path = folder / "bundle.json"
    path.write_bytes(mutate(path.read_bytes(), np.random.default_rng(seed)))
    survives(lambda: load_bundle(folder))


@pytest.mark.parametrize("seed", range(8))
def test_mutated_weights_are_never_loaded(whole_bundle, tmp_path, seed):
    folder = shutil.copytree(whole_bundle, tmp_path / "bundle")
    path = folder / "fold_0.safetensors"
    content = path.read_bytes()
    mutated = mutate(content, np.random.default_rng(seed))
    path.write_bytes(mutated)
    if mutated != content:
        with pytest.raises(BundleError):
            load_bundle(folder)


@pytest.mark.parametrize("seed", range(20))
def test_mutated_weights_with_a_hash_that_agrees_give_bundle_errors(whole_bundle, tmp_path, seed):
    """Whoever can write the weights can write the manifest too."""
    folder = shutil.copytree(whole_bundle, tmp_path / "bundle")
    path, manifest = folder / "fold_0.safetensors", folder / "bundle.json"
    content = path.read_bytes()
    # the header is what is parsed: its length in 8 bytes, then JSON
    head = mutate(content[:2000], np.random.default_rng(seed))
    path.write_bytes(head + content[2000:])
    before, after = (sha256(data).hexdigest() for data in (content, path.read_bytes()))
    manifest.write_text(manifest.read_text().replace(before, after))
    survives(lambda: load_bundle(folder))
