"""One contract that every architecture passes, each over a small encoder or in small widths, at 64 px."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from gitract_kit.errors import SettingsError
from gitract_kit.models import create_loss, create_model
from gitract_kit.models.factory import architecture_names
from gitract_kit.settings import ModelSettings

ENCODER = "tu-resnet10t"
SETTINGS = {
    "unet": {"decoder_channels": (16, 8, 8)},
    "unetplusplus": {"decoder_channels": (16, 8, 8)},
    "manet": {"decoder_channels": (16, 8, 8)},
    "unet_2015": {"decoder_channels": (16, 8, 4)},
    "resunetplusplus": {"decoder_channels": (32, 16)},
}


def settings_of(architecture):
    return ModelSettings(
        architecture=architecture, encoder=ENCODER, encoder_depth=3, **SETTINGS.get(architecture, {})
    )


def create(architecture, in_channels=3):
    torch.manual_seed(0)
    return create_model(settings_of(architecture), in_channels=in_channels, classes=2)


every_architecture = pytest.mark.parametrize("architecture", architecture_names())


@every_architecture
@pytest.mark.parametrize("slices", [1, 3, 5])
def test_logits_have_the_size_of_the_input_whatever_the_number_of_slices(architecture, slices):
    logits = create(architecture, slices)(torch.rand(2, slices, 64, 64))

    assert logits.shape == (2, 2, 64, 64)
    assert logits.dtype == torch.float32


@every_architecture
def test_a_step_lowers_the_loss(architecture):
    network, loss = create(architecture), create_loss({"bce": 0.5, "dice": 0.5})
    images = torch.rand(2, 3, 64, 64)
    masks = torch.stack([images.mean(1) > 0.5, images[:, 0] > 0.8], dim=1).float()

    def compute():
        # the same dropout in both passes
        torch.manual_seed(3)
        return loss(network(images), masks)

    before = compute()
    before.backward()
    torch.optim.SGD(network.parameters(), lr=0.01).step()

    assert compute() < before


@every_architecture
def test_every_weight_takes_part(architecture):
    network = create(architecture)

    network(torch.rand(2, 3, 64, 64)).square().mean().backward()

    assert [name for name, weight in network.named_parameters() if weight.grad is None] == []


@every_architecture
def test_saved_and_loaded_it_answers_bit_for_bit(architecture, tmp_path):
    network = create(architecture)
    network(torch.rand(2, 3, 64, 64))
    network.eval()
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    torch.manual_seed(1)
    again = create_model(settings_of(architecture), in_channels=3, classes=2).eval()
    again.load_state_dict(load_file(tmp_path / "model.safetensors"))
    images = torch.rand(1, 3, 64, 96)

    with torch.inference_mode():
        assert torch.equal(network(images), again(images))


def count_weights(architecture, **channels):
    with torch.device("meta"):
        network = create_model(ModelSettings(architecture=architecture), **channels)
    return sum(weight.numel() for weight in network.parameters())


def test_the_plain_unet_has_as_many_weights_as_the_papers():
    assert count_weights("unet_2015", in_channels=1, classes=2) == 31_030_658


def test_resunetplusplus_has_as_many_weights_as_the_authors():
    """Their 4,070,385 count the statistics of batch normalisation, and the squeeze and excitation that their code,
    but not the paper, has in the decoder: 2 * width * width / 8 at widths 128, 64 and 32."""
    statistics, decoder_excitation = 7_392, 4_096 + 1_024 + 256

    weights = count_weights("resunetplusplus", in_channels=3, classes=1)

    assert weights == 4_070_385 - statistics - decoder_excitation


def test_own_architectures_refuse_encoder_weights():
    with pytest.raises(SettingsError, match="unet_2015 has an encoder of its own, without any; set null"):
        create_model(
            ModelSettings(architecture="unet_2015", encoder_weights="imagenet"), in_channels=1, classes=1
        )
    with pytest.raises(SettingsError, match=r"model.decoder_channels is \[8, 1\]; give one or more widths"):
        create_model(
            ModelSettings(architecture="unet_2015", decoder_channels=(8, 1)), in_channels=1, classes=1
        )


# what torch says of a convolution without inputs
@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize("depth", [3, 4])
@pytest.mark.parametrize("encoder", ["tu-convnext_atto", "tu-pvt_v2_b0"])
def test_fpn_wants_five_halvings_of_an_encoder_that_begins_at_a_quarter(encoder, depth):
    model = ModelSettings(architecture="fpn", encoder=encoder, encoder_depth=depth)

    with pytest.raises(
        SettingsError, match=f"encoder_depth is {depth}, and {encoder} .* set model.encoder_depth to 5"
    ):
        create_model(model, in_channels=3, classes=2)


@pytest.mark.parametrize(("architecture", "depth"), [("fpn", 5), ("upernet", 3), ("upernet", 4)])
def test_such_an_encoder_serves_fpn_at_five_and_others_at_every_depth(architecture, depth):
    model = ModelSettings(architecture=architecture, encoder="tu-convnext_atto", encoder_depth=depth)

    assert create_model(model, in_channels=3, classes=2)(torch.rand(2, 3, 64, 64)).shape == (2, 2, 64, 64)


@pytest.mark.parametrize(
    ("encoder", "told"), [("tu-vgg11", "AssertionError"), ("tu-pvt_v2_b0", "output_stride")]
)
def test_an_encoder_that_cannot_keep_its_resolution_is_refused_by_deeplab(encoder, told):
    with pytest.raises(SettingsError, match=f"deeplabv3plus over {encoder} cannot be made: .*{told}"):
        create_model(ModelSettings(architecture="deeplabv3plus", encoder=encoder), in_channels=3, classes=2)


def test_weights_that_cannot_be_fetched_name_the_way_without_a_network():
    with pytest.raises(
        SettingsError, match=r"cannot be fetched for tu-resnet10t .* path of a .safetensors file"
    ):
        create_model(
            ModelSettings(encoder="tu-resnet10t", encoder_weights="imagenet"), in_channels=3, classes=1
        )
