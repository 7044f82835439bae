from __future__ import annotations

import json
import shutil
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save, save_file

from gitract_kit.data.scans import Scan
from gitract_kit.errors import BundleError, SettingsError
from gitract_kit.inference.member import NetworkMember
from gitract_kit.models import create_model
from gitract_kit.settings import (
    GeometrySettings,
    ModelSettings,
    PredictionSettings,
    Settings,
    WindowSettings,
    settings_to_dict,
)
from gitract_kit.shipping.bundle import Bundle, create_bundle, load_bundle, read_manifest

SETTINGS = Settings(
    window=WindowSettings(slices=3),
    geometry=GeometrySettings(height=64, width=64),
    model=ModelSettings(
        architecture="unet",
        encoder="tu-resnet10t",
        encoder_weights="imagenet",
        encoder_depth=3,
        decoder_channels=(16, 8, 8),
    ),
    prediction=PredictionSettings(
        tta="none", threshold={"large_bowel": 0.4, "small_bowel": 0.3, "stomach": 0.5}
    ),
)


def create_network(seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    model = ModelSettings(
        architecture="unet", encoder="tu-resnet10t", encoder_depth=3, decoder_channels=(16, 8, 8)
    )
    return create_model(model, in_channels=3, classes=3).eval()


def write_fold(run: Path, fold: int, **changes: object) -> None:
    folder = run / f"fold_{fold}"
    folder.mkdir(parents=True)
    content = save(create_network(fold).state_dict())
    (folder / "model.safetensors").write_bytes(content)
    about = {
        "format": 1,
        "settings": settings_to_dict(SETTINGS),
        "fold": fold,
        "epoch": 3 + fold,
        "score": {"total": 0.8, "dice": 0.7, "hausdorff": 0.1},
        "versions": {"torch": "2"},
        "sha256": sha256(content).hexdigest(),
        "data_fingerprint": "more keys may follow",
    }
    (folder / "model.json").write_text(json.dumps({**about, **changes}))


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("run")
    for fold in (0, 1):
        write_fold(run, fold)
    return run


@pytest.fixture(scope="session")
def whole_bundle(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return create_bundle(trained_run, tmp_path_factory.mktemp("weights") / "made-up")


@pytest.fixture
def run(trained_run: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return shutil.copytree(trained_run, tmp_path / "run")


@pytest.fixture
def folder(whole_bundle: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return shutil.copytree(whole_bundle, tmp_path / "made-up")


@pytest.fixture(scope="session")
def scan() -> Scan:
    volume = np.random.default_rng(0).integers(0, 60000, (4, 50, 60)).astype(np.uint16)
    return Scan("case1_day0", ("a", "b", "c", "d"), np.arange(4), volume, (1.5, 1.5))


def change_manifest(folder: Path, change) -> None:
    path = folder / "bundle.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def replace_weights(folder: Path, state: dict[str, torch.Tensor]) -> None:
    """Other weights with a hash that agrees."""
    save_file(state, folder / "fold_0.safetensors")
    digest = sha256((folder / "fold_0.safetensors").read_bytes()).hexdigest()
    change_manifest(folder, lambda manifest: manifest["members"][0].update(sha256=digest))


def test_full_precision_predicts_what_the_run_does_bit_for_bit(trained_run, tmp_path, scan):
    bundle = load_bundle(create_bundle(trained_run, tmp_path / "full", half=False))
    for fold, member in enumerate(bundle.members):
        own = NetworkMember(create_network(fold), SETTINGS)
        np.testing.assert_array_equal(member.predict(scan), own.predict(scan))


def test_half_precision_is_the_run_rounded_to_float16(whole_bundle, trained_run, scan):
    stored = load_file(whole_bundle / "fold_1.safetensors")
    for name, tensor in load_file(trained_run / "fold_1" / "model.safetensors").items():
        expected = tensor.half() if tensor.dtype == torch.float32 else tensor
        assert torch.equal(stored[name], expected)
    own = NetworkMember(create_network(1), SETTINGS)
    difference = load_bundle(whole_bundle).members[1].predict(scan).astype(float) - own.predict(scan)
    assert np.abs(difference).max() < 0.01


def test_bundle_knows_what_it_predicts_and_how(whole_bundle):
    bundle = load_bundle(whole_bundle)
    assert isinstance(bundle, Bundle)
    assert (bundle.name, bundle.layout, bundle.organs) == ("made-up", "uw-madison", SETTINGS.organs)
    assert bundle.prediction == SETTINGS.prediction
    assert [member.name for member in bundle.members] == ["made-up/fold_0", "made-up/fold_1"]
    assert len({member.group for member in bundle.members}) == 1
    assert {member.role for member in bundle.members} == {"segment"}
    assert [member.tta for member in bundle.members] == ["none", "none"]


def test_manifest_describes_every_member(whole_bundle):
    manifest = read_manifest(whole_bundle)
    assert [(entry["fold"], entry["epoch"], entry["role"]) for entry in manifest["members"]] == [
        (0, 3, "segment"),
        (1, 4, "segment"),
    ]
    for entry in manifest["members"]:
        path = whole_bundle / entry["weights"]
        assert entry["bytes"] == path.stat().st_size
        assert entry["sha256"] == sha256(path.read_bytes()).hexdigest()
    assert sorted(path.name for path in whole_bundle.iterdir()) == [
        "bundle.json",
        "fold_0.safetensors",
        "fold_1.safetensors",
    ]


def test_same_run_gives_the_same_bytes(trained_run, whole_bundle, tmp_path):
    again = create_bundle(trained_run, tmp_path / "made-up")
    for path in whole_bundle.iterdir():
        assert (again / path.name).read_bytes() == path.read_bytes()


def test_what_evaluation_chose_travels_in_the_bundle(run, tmp_path):
    (run / "prediction.json").write_text(
        json.dumps({"threshold": {"large_bowel": 0.3}, "min_component_px": 60})
    )

    bundle = load_bundle(create_bundle(run, tmp_path / "chosen"))

    assert bundle.prediction.threshold == {"large_bowel": 0.3}
    assert bundle.prediction.min_component_px == 60
    assert bundle.prediction.tta == "none", "what it does not decide stays the run's own"


def write_ensemble(path: Path, runs: dict[Path, float], **more: object) -> Path:
    """What `gitract evaluate` writes of several runs, as far as bundles read it."""
    numbers = {
        "runs": [str(run) for run in runs],
        "weights": list(runs.values()),
        "own": {"prediction": {"threshold": {"large_bowel": 0.5}}},
        **more,
    }
    path.write_text(json.dumps(numbers))
    return path


def test_ensemble_gives_the_run_s_weight_to_its_folds_and_its_settings_to_the_bundle(run, tmp_path):
    (run / "prediction.json").write_text(json.dumps({"min_component_px": 60}))
    chosen = {"prediction": {"threshold": {"large_bowel": 0.3}}}
    ensemble = write_ensemble(
        tmp_path / "ensemble.json", {tmp_path / "other": 0.25, run: 0.75}, chosen=chosen
    )

    bundle = load_bundle(create_bundle(run, tmp_path / "part", ensemble=ensemble))

    assert [member.weight for member in bundle.members] == [0.375, 0.375]
    assert bundle.prediction.threshold == {"large_bowel": 0.3}
    assert bundle.prediction.min_component_px == 25, "what was chosen for the run alone is not the ensemble's"


def test_ensemble_without_a_search_keeps_the_own_settings(run, tmp_path):
    ensemble = write_ensemble(tmp_path / "ensemble.json", {run: 0.5, tmp_path / "other": 0.5})
    manifest = read_manifest(create_bundle(run, tmp_path / "part", ensemble=ensemble))
    assert manifest["prediction"]["threshold"] == {"large_bowel": 0.5}
    assert {entry["weight"] for entry in manifest["members"]} == {0.25}


def test_ensemble_of_other_runs_or_without_this_one_is_refused(run, tmp_path):
    other = write_ensemble(tmp_path / "other.json", {tmp_path / "a": 0.5, tmp_path / "b": 0.5})
    with pytest.raises(SettingsError, match=r"other\.json tells of .*, and not of .*/run"):
        create_bundle(run, tmp_path / "part", ensemble=other)
    useless = write_ensemble(tmp_path / "useless.json", {tmp_path / "a": 1.0, run: 0.0})
    with pytest.raises(SettingsError, match="no weight: the ensemble is better without it; leave it out"):
        create_bundle(run, tmp_path / "part", ensemble=useless)
    assert not (tmp_path / "part").exists()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"runs": [1], "weights": ["a"], "own": {}}'])
def test_damaged_ensemble_is_an_error_that_names_the_file(run, tmp_path, content):
    (tmp_path / "ensemble.json").write_text(content)
    with pytest.raises(SettingsError, match=r"ensemble\.json: cannot be read as an ensemble"):
        create_bundle(run, tmp_path / "part", ensemble=tmp_path / "ensemble.json")


def test_folds_and_name_can_be_chosen(trained_run, tmp_path):
    manifest = read_manifest(create_bundle(trained_run, tmp_path / "out", folds=[1], name="second"))
    assert manifest["name"] == "second"
    assert [entry["fold"] for entry in manifest["members"]] == [1]


def test_gates_are_bundled_as_such(trained_run, tmp_path):
    manifest = read_manifest(create_bundle(trained_run, tmp_path / "out", role="gate"))
    assert {entry["role"] for entry in manifest["members"]} == {"gate"}
    with pytest.raises(SettingsError, match="role is 'judge', expected segment or gate"):
        create_bundle(trained_run, tmp_path / "out", role="judge")


def test_bundle_of_gates_loads(trained_run, tmp_path):
    bundle = load_bundle(create_bundle(trained_run, tmp_path / "out", role="gate"))
    assert {member.role for member in bundle.members} == {"gate"}


def test_prediction_can_be_changed_when_loading(whole_bundle):
    bundle = load_bundle(whole_bundle, tta="flips", batch_size=3)
    assert (bundle.prediction.tta, bundle.prediction.batch_size) == ("flips", 3)
    assert {(member.tta, member.batch_size) for member in bundle.members} == {("flips", 3)}


def test_run_without_a_trained_fold_is_refused(tmp_path):
    with pytest.raises(BundleError, match=r"holds no fold_\*/model.json; give the run folder"):
        create_bundle(tmp_path, tmp_path / "out")


def test_untrained_fold_is_refused_by_number(run, tmp_path):
    with pytest.raises(BundleError, match="has no trained fold 4; trained are 0, 1: train it first"):
        create_bundle(run, tmp_path / "out", folds=[0, 4])


def test_torn_weights_of_a_run_are_refused_and_no_manifest_is_left(run, tmp_path):
    weights = run / "fold_1" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(
        BundleError, match=r"fold_1/model.safetensors: its sha256 is .* altered or not copied whole"
    ):
        create_bundle(run, tmp_path / "out")
    assert not (tmp_path / "out" / "bundle.json").exists()


def test_run_of_another_format_is_refused(run, tmp_path):
    path = run / "fold_0" / "model.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(BundleError, match=r"model.json: has the format 2, this kit reads 1"):
        create_bundle(run, tmp_path / "out")


@pytest.mark.parametrize("fold", ["/../../../escaped", 1, "0\n", None])
def test_fold_that_is_not_the_folders_is_refused_before_a_file_is_named_after_it(run, tmp_path, fold):
    path = run / "fold_0" / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "fold": fold}))
    with pytest.raises(BundleError, match=r"model.json: is of fold .*, not of fold_0; copy the run again"):
        create_bundle(run, tmp_path / "deep" / "bundle")
    assert not list(tmp_path.rglob("*escaped*"))
    assert not list((tmp_path / "deep").rglob("*.safetensors"))


def test_run_that_lacks_its_settings_is_refused(run, tmp_path):
    path = run / "fold_0" / "model.json"
    path.write_text('{"format": 1, "fold": 0}')
    with pytest.raises(BundleError, match="lacks settings, epoch, score, sha256; train the fold again"):
        create_bundle(run, tmp_path / "out")


def test_folds_of_other_organs_are_not_bundled(run, tmp_path):
    shutil.rmtree(run / "fold_1")
    write_fold(run, 1, settings={**settings_to_dict(SETTINGS), "organs": ["one", "two", "three"]})
    with pytest.raises(BundleError, match=r"fold_1/model.json: predicts one, two, three, but .*large_bowel"):
        create_bundle(run, tmp_path / "out")


def test_weights_beyond_float16_are_refused(run, tmp_path):
    state = load_file(run / "fold_0" / "model.safetensors")
    name = next(name for name, tensor in state.items() if tensor.dtype == torch.float32)
    state[name] = state[name] + 1e6
    content = save(state)
    (run / "fold_0" / "model.safetensors").write_bytes(content)
    about = json.loads((run / "fold_0" / "model.json").read_text())
    (run / "fold_0" / "model.json").write_text(json.dumps({**about, "sha256": sha256(content).hexdigest()}))
    with pytest.raises(
        BundleError, match="holds values that float16 cannot; create the bundle with half=False"
    ):
        create_bundle(run, tmp_path / "out")
    create_bundle(run, tmp_path / "out", half=False)


def test_folder_without_a_manifest_is_refused(tmp_path):
    with pytest.raises(
        BundleError, match=r"bundle.json: cannot be read .* give the folder that `gitract bundle`"
    ):
        load_bundle(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "is not JSON"), ("[1]", "holds a list, expected a JSON object"), ("\x00\xff", "is not JSON")],
)
def test_manifest_that_is_no_json_object_is_refused(folder, text, message):
    (folder / "bundle.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(BundleError, match=rf"bundle.json: {message}"):
        load_bundle(folder)


SPOILT = {
    "format": (lambda m: m.update(format=7), "has the format 7, this kit reads 1"),
    "no members": (lambda m: m.update(members=[]), "holds no members"),
    "members no list": (lambda m: m.update(members={}), "members of the bundle is {}"),
    "organs no list": (lambda m: m.update(organs=3), "organs of the bundle is 3"),
    "organs no names": (lambda m: m.update(organs=[3]), r"organs are \[3\], expected a list of names"),
    "hash no text": (lambda m: m["members"][1].update(sha256=None), "sha256 of a member is None"),
    "weight no number": (lambda m: m["members"][1].update(weight=True), "weight of a member is True"),
    "member no object": (lambda m: m.update(members=[3]), "a member is 3, expected a JSON object"),
    "missing key": (lambda m: m.pop("organs"), "the bundle lacks organs"),
    "unknown key": (lambda m: m.update(colour=1), "the bundle has the unknown key 'colour'"),
    "member's missing key": (lambda m: m["members"][0].pop("sha256"), "a member lacks sha256"),
    "member's unknown key": (lambda m: m["members"][0].update(x=1), "a member has the unknown key 'x'"),
    "path upwards": (
        lambda m: m["members"][0].update(weights="../fold_0.safetensors"),
        r"weights are '\.\./fold_0.safetensors', expected the name of a .safetensors file beside it",
    ),
    "pickle": (lambda m: m["members"][0].update(weights="fold_0.pt"), "weights are 'fold_0.pt', expected"),
    "role": (lambda m: m["members"][0].update(role="judge"), "fold_0.safetensors has the role 'judge'"),
    "weight": (lambda m: m["members"][0].update(weight=-1), "has the weight -1, expected a number over 0"),
    "setting": (
        lambda m: m["members"][0]["settings"]["window"].update(strid=2),
        "its settings are not this kit's: no setting is called window.strid; did you mean 'stride'",
    ),
    "prediction": (
        lambda m: m["prediction"].update(threshold=2),
        "its settings are not this kit's: prediction.threshold is 2.0; it must be over 0 and below 1",
    ),
    "architecture": (
        lambda m: m["members"][0]["settings"]["model"].update(architecture="unot"),
        "the network of fold_0.safetensors cannot be made: .*no architecture is called 'unot'",
    ),
    "organs": (
        lambda m: m["members"][1]["settings"].update(organs=["one", "two", "three"]),
        "fold_1.safetensors: predicts one, two, three, but .*bundle.json large_bowel, small_bowel, stomach",
    ),
}


@pytest.mark.parametrize("spoilt", SPOILT)
def test_manifest_at_fault_says_what_and_what_to_do(folder, spoilt):
    change, message = SPOILT[spoilt]
    change_manifest(folder, change)
    with pytest.raises(BundleError, match=message) as caught:
        load_bundle(folder)
    assert str(folder) in str(caught.value)


def test_missing_weights_are_named(folder):
    (folder / "fold_1.safetensors").unlink()
    with pytest.raises(
        BundleError, match=r"fold_1.safetensors: cannot be read .*; copy the whole folder again"
    ):
        load_bundle(folder)


def test_altered_weights_are_refused_before_any_member_is_made(folder, monkeypatch):
    path = folder / "fold_1.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    monkeypatch.setattr(
        "gitract_kit.shipping.bundle.create_model", lambda *_, **__: pytest.fail("made too soon")
    )
    with pytest.raises(
        BundleError, match=r"fold_1.safetensors: its sha256 is .*, expected .*: copy it again"
    ):
        load_bundle(folder)


def test_weights_that_are_no_safetensors_are_refused_unread(folder):
    content = b"\x80\x04cos\nsystem\n(S'exit 1'\ntR."
    (folder / "fold_0.safetensors").write_bytes(content)
    digest = sha256(content).hexdigest()
    change_manifest(folder, lambda manifest: manifest["members"][0].update(sha256=digest))
    with pytest.raises(BundleError, match=r"fold_0.safetensors: is not a safetensors file"):
        load_bundle(folder)


def test_missing_tensor_is_named(folder):
    state = load_file(folder / "fold_0.safetensors")
    removed = next(name for name in state if name.startswith("segmentation_head"))
    del state[removed]
    replace_weights(folder, state)
    with pytest.raises(BundleError, match=rf"fold_0.safetensors: lacks 1 tensors, {removed} the first"):
        load_bundle(folder)


def test_extra_tensor_is_named(folder):
    replace_weights(folder, {**load_file(folder / "fold_0.safetensors"), "extra": torch.zeros(1)})
    with pytest.raises(BundleError, match="has beyond the network's 1 tensors, extra the first"):
        load_bundle(folder)


def test_tensor_of_another_shape_is_named(folder):
    state = load_file(folder / "fold_0.safetensors")
    name = "segmentation_head.0.bias"
    replace_weights(folder, {**state, name: torch.zeros(7)})
    with pytest.raises(BundleError, match=rf"has in another shape 1 tensors, {name} the first"):
        load_bundle(folder)


def test_missing_member_may_be_left_out_with_a_warning(folder):
    (folder / "fold_0.safetensors").unlink()
    with pytest.warns(UserWarning, match=r"left out: .*fold_0.safetensors: cannot be read"):
        bundle = load_bundle(folder, allow_missing_members=True)
    assert [member.name for member in bundle.members] == ["made-up/fold_1"]


def test_altered_member_may_be_left_out_with_a_warning(folder):
    (folder / "fold_1.safetensors").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"left out: .*fold_1.safetensors: its sha256"):
        assert len(load_bundle(folder, allow_missing_members=True).members) == 1


def test_bundle_without_one_whole_member_is_refused_all_the_same(folder):
    for path in folder.glob("*.safetensors"):
        path.unlink()
    with pytest.warns(UserWarning, match="left out"), pytest.raises(BundleError, match="no member is whole"):
        load_bundle(folder, allow_missing_members=True)
