from __future__ import annotations

import json
import shutil
from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save

from gitract_kit.competition.layout import ORGANS
from gitract_kit.competition.phantom import write_phantom
from gitract_kit.competition.submission import check_submission, read_submission
from gitract_kit.errors import BundleError, SettingsError
from gitract_kit.models import create_model
from gitract_kit.settings import (
    GeometrySettings,
    ModelSettings,
    PredictionSettings,
    Settings,
    WindowSettings,
    settings_to_dict,
)
from gitract_kit.shipping.bundle import create_bundle
from gitract_kit.shipping.submit import predict_bundles

MODEL = ModelSettings(
    architecture="unet", encoder="tu-resnet10t", encoder_depth=3, decoder_channels=(16, 8, 8)
)


def write_bundle(
    folder: Path,
    *,
    folds: int = 2,
    organs: tuple[str, ...] = ORGANS,
    role: str = "segment",
    threshold: float = 0.5,
) -> Path:
    settings = Settings(
        organs=organs,
        window=WindowSettings(slices=3),
        geometry=GeometrySettings(height=64, width=64),
        model=MODEL,
        prediction=PredictionSettings(tta="hflip", min_component_px=0, threshold=threshold),
    )
    run = folder.parent / f"run-{folder.name}"
    for fold in range(folds):
        torch.manual_seed(fold)
        place = run / f"fold_{fold}"
        place.mkdir(parents=True)
        content = save(create_model(MODEL, in_channels=3, classes=len(organs)).state_dict())
        (place / "model.safetensors").write_bytes(content)
        about = {
            "format": 1,
            "settings": settings_to_dict(settings),
            "fold": fold,
            "epoch": 1,
            "score": {},
            "sha256": sha256(content).hexdigest(),
        }
        (place / "model.json").write_text(json.dumps(about))
    return create_bundle(run, folder, role=role)


@pytest.fixture(scope="module")
def shared_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("weights") / "made-up")


@pytest.fixture
def bundle(shared_bundle: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return shutil.copytree(shared_bundle, tmp_path / "made-up")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    place = root / "test" / "case1" / "case1_day0" / "scans"
    place.mkdir(parents=True)
    random = np.random.default_rng(0)
    rows = []
    for number in range(1, 4):
        image = random.integers(0, 60000, (40, 48)).astype(np.uint16)
        cv2.imwrite(str(place / f"slice_{number:04d}_48_40_1.50_1.50.png"), image)
        rows += [f"case1_day0_slice_{number:04d},{organ}," for organ in ORGANS]
    (root / "sample_submission.csv").write_text("\n".join(["id,class,predicted", *rows]) + "\n")
    return root


def check_empty(root: Path, output: Path) -> None:
    check_submission(output, root / "sample_submission.csv")
    assert not any(read_submission(output).predicted)


def test_members_of_all_bundles_predict_together(bundle, root, tmp_path):
    second = write_bundle(tmp_path / "second", folds=1)
    summary = predict_bundles(
        [bundle, second], root, tmp_path / "submission.csv", device="cpu", progress=False
    )
    check_submission(summary.output, root / "sample_submission.csv")
    members = json.loads(summary.record.read_text())["members"]
    assert [member["name"] for member in members] == ["made-up/fold_0", "made-up/fold_1", "second/fold_0"]


def test_settings_are_those_of_the_first_bundle_that_draws(bundle, root, tmp_path):
    gate = write_bundle(tmp_path / "gate", folds=1, role="gate", threshold=0.9)
    summary = predict_bundles([gate, bundle], root, tmp_path / "submission.csv", device="cpu", progress=False)
    assert json.loads(summary.record.read_text())["prediction"]["threshold"] == 0.5


def test_bundles_of_other_settings_are_warned_of(bundle, root, tmp_path):
    other = write_bundle(tmp_path / "other", folds=1, threshold=0.3)
    with pytest.warns(
        UserWarning, match="other has other prediction settings than .*made-up, whose are used"
    ):
        summary = predict_bundles(
            [bundle, other], root, tmp_path / "submission.csv", device="cpu", progress=False
        )
    assert json.loads(summary.record.read_text())["prediction"]["threshold"] == 0.5


def test_missing_weights_are_fatal_and_leave_the_empty_submission(bundle, root, tmp_path):
    (bundle / "fold_1.safetensors").unlink()
    with pytest.raises(BundleError, match=r"fold_1.safetensors: cannot be read"):
        predict_bundles([bundle], root, tmp_path / "submission.csv", device="cpu", progress=False)
    check_empty(root, tmp_path / "submission.csv")


def test_missing_weights_are_fatal_in_the_rerun_too(bundle, root, tmp_path, monkeypatch):
    monkeypatch.setenv("KAGGLE_IS_COMPETITION_RERUN", "1")
    (bundle / "fold_1.safetensors").unlink()
    with pytest.raises(BundleError, match=r"fold_1.safetensors: cannot be read"):
        predict_bundles([bundle], root, tmp_path / "submission.csv", device="cpu", progress=False)
    check_empty(root, tmp_path / "submission.csv")


def test_altered_weights_are_fatal_and_leave_the_empty_submission(bundle, root, tmp_path):
    path = bundle / "fold_0.safetensors"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(BundleError, match=r"fold_0.safetensors: its sha256 is"):
        predict_bundles([bundle], root, tmp_path / "submission.csv", device="cpu", progress=False)
    check_empty(root, tmp_path / "submission.csv")


def test_missing_member_may_be_lived_with(bundle, root, tmp_path):
    (bundle / "fold_1.safetensors").unlink()
    with pytest.warns(UserWarning, match=r"left out: .*fold_1"):
        summary = predict_bundles(
            [bundle],
            root,
            tmp_path / "submission.csv",
            device="cpu",
            allow_missing_members=True,
            progress=False,
        )
    assert len(json.loads(summary.record.read_text())["members"]) == 1


def test_no_time_at_all_leaves_empty_rows(bundle, root, tmp_path):
    summary = predict_bundles(
        [bundle], root, tmp_path / "submission.csv", device="cpu", budget_s=0.0, progress=False
    )
    assert [scan.done for scan in summary.scans] == ["empty rows: no time left"]
    check_empty(root, tmp_path / "submission.csv")


def test_bundles_of_other_organs_do_not_combine(bundle, root, tmp_path):
    other = write_bundle(tmp_path / "other", folds=1, organs=("liver",))
    with pytest.raises(BundleError, match=r"other predicts liver of uw-madison, .*made-up large_bowel"):
        predict_bundles([bundle, other], root, tmp_path / "submission.csv", device="cpu", progress=False)
    check_empty(root, tmp_path / "submission.csv")


def test_two_devices_write_the_bytes_that_one_writes(bundle, tmp_path):
    root = write_phantom(tmp_path / "phantom", cases=1, days=1, test_cases=3, slices=6).root
    files = {device: tmp_path / device / "submission.csv" for device in ("cpu", "cpu,cpu")}
    for device, file in files.items():
        predict_bundles([bundle], root, file, device=device, progress=False)
    assert any(read_submission(files["cpu"]).predicted)
    assert files["cpu,cpu"].read_bytes() == files["cpu"].read_bytes()
    assert json.loads((tmp_path / "cpu,cpu" / "run.json").read_text())["further_devices"] == ["cpu"]


@pytest.mark.parametrize("device", ["gpu", "cpu,cuda:99", ""])
def test_device_that_is_not_there_is_named(bundle, root, tmp_path, device):
    with pytest.raises(SettingsError, match="is not one of this machine's: cpu"):
        predict_bundles([bundle], root, tmp_path / "submission.csv", device=device, progress=False)
