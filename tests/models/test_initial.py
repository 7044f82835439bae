import pytest
import torch
from safetensors.torch import save_file

from gitract_kit.errors import SettingsError
from gitract_kit.models import create_model
from gitract_kit.models.initial import load_initial_weights
from gitract_kit.settings import ModelSettings

SMALL = ModelSettings(architecture="unet_2015", decoder_channels=(8, 4))


@pytest.fixture
def path(tmp_path):
    network = create_model(SMALL, in_channels=3, classes=3)
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def test_weights_of_the_same_network_are_all_taken(path):
    network, other = (create_model(SMALL, in_channels=3, classes=3) for _ in range(2))

    assert load_initial_weights(network, path) == []
    assert load_initial_weights(other, path) == []

    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name])


def test_shapes_that_differ_keep_their_start_and_are_named(path):
    network = create_model(SMALL, in_channels=5, classes=3)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    left = load_initial_weights(network, path)

    assert left == ["contracting.0.0.weight ((4, 3, 3, 3) in the file, (4, 5, 3, 3) here)"]
    after = network.state_dict()
    assert torch.equal(after["contracting.0.0.weight"], before["contracting.0.0.weight"])
    assert not torch.equal(after["head.weight"], before["head.weight"])


def test_a_deeper_network_names_what_the_file_lacks(path):
    network = create_model(
        ModelSettings(architecture="unet_2015", decoder_channels=(16, 8, 4)), in_channels=3, classes=3
    )

    left = load_initial_weights(network, path)

    assert "contracting.2.0.weight (not in the file)" in left


def test_files_that_do_not_fit_are_refused(path, tmp_path):
    network = create_model(SMALL, in_channels=3, classes=3)
    save_file({"other": torch.zeros(3)}, tmp_path / "other.safetensors")
    (tmp_path / "torn.safetensors").write_bytes(path.read_bytes()[:100])

    for name, message in (
        ("other.safetensors", "no tensor of .* fits this network"),
        ("torn.safetensors", "is not a whole safetensors file"),
        ("gone.safetensors", "no file .*; give the model.safetensors of another run, or set null"),
    ):
        with pytest.raises(SettingsError, match=message):
            load_initial_weights(network, tmp_path / name)
