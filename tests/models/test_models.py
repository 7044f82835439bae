import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from gitract_kit.errors import SettingsError
from gitract_kit.models import create_loss, create_model
from gitract_kit.models.forward import predict_planes, select_precision
from gitract_kit.models.losses import dice_loss
from gitract_kit.settings import ModelSettings

SMALL = ModelSettings(
    architecture="unet", encoder="tu-resnet10t", encoder_depth=3, decoder_channels=(16, 8, 8)
)


@pytest.mark.parametrize("in_channels", [1, 3, 5])
def test_a_network_gives_logits_at_its_inputs_size(in_channels):
    network = create_model(SMALL, in_channels=in_channels, classes=3)

    assert network(torch.rand(2, in_channels, 64, 64)).shape == (2, 3, 64, 64)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (ModelSettings(architecture="unett"), "no architecture is called 'unett'; did you mean 'unet'"),
        (ModelSettings(encoder="tu-no_such_net"), "unet over tu-no_such_net cannot be made"),
        (ModelSettings(encoder_depth=3, decoder_channels=(8, 8)), "has 2 stages, model.encoder_depth is 3"),
        (
            ModelSettings(architecture="deeplabv3plus", decoder_channels=(8, 8, 8, 8, 8)),
            "deeplabv3plus has no stages for model.decoder_channels",
        ),
        (ModelSettings(encoder_weights="gone.safetensors"), "no file gone.safetensors; mount it"),
    ],
)
def test_an_impossible_network_says_which_setting(model, message):
    with pytest.raises(SettingsError, match=message):
        create_model(model, in_channels=3, classes=3)


def test_local_encoder_weights_are_loaded_and_their_first_convolution_adapted(tmp_path):
    source = create_model(SMALL, in_channels=3, classes=1).encoder
    save_file(source.state_dict(), tmp_path / "encoder.safetensors")
    settings = ModelSettings(**{**vars(SMALL), "encoder_weights": str(tmp_path / "encoder.safetensors")})

    network = create_model(settings, in_channels=5, classes=2)

    own, given = network.encoder.state_dict(), source.state_dict()
    first = next(name for name in given if own[name].shape != given[name].shape)
    assert own[first].shape[1] == 5
    for name in given:
        if name != first:
            assert torch.equal(own[name], given[name])


def with_weights(path, **settings):
    return ModelSettings(architecture="upernet", encoder_weights=str(path), **settings)


@pytest.mark.parametrize("depth", [3, 5])
@pytest.mark.parametrize("name", ["resnet10t", "tf_efficientnet_b0", "convnext_atto"])
def test_a_whole_network_of_timm_gives_its_encoder(name, depth, tmp_path):
    whole = timm.create_model(name, pretrained=False).state_dict()
    path = tmp_path / "model.safetensors"
    save_file(whole, path)

    encoder = create_model(
        with_weights(path, encoder=f"tu-{name}", encoder_depth=depth), in_channels=3, classes=2
    ).encoder

    own = encoder.state_dict()
    given = {key.replace(".", "_"): tensor for key, tensor in whole.items()}
    assert own
    for key, tensor in own.items():
        assert torch.equal(tensor, given[key.removeprefix("model.").replace(".", "_")]), key


@pytest.mark.parametrize("name", ["resnet10t", "convnext_atto"])
def test_the_first_convolution_of_timms_network_is_adapted_too(name, tmp_path):
    whole = timm.create_model(name, pretrained=False).state_dict()
    path = tmp_path / "model.safetensors"
    save_file(whole, path)

    own = create_model(
        with_weights(path, encoder=f"tu-{name}", encoder_depth=3), in_channels=5, classes=2
    ).encoder.state_dict()

    first, given = next(iter(own.values())), next(iter(whole.values()))
    expected = given[:, [0, 1, 2, 0, 1]] * 3 / 5
    torch.testing.assert_close(first, expected)


def test_an_encoder_of_smp_takes_its_own_weights(tmp_path):
    source = create_model(ModelSettings(encoder="resnet18"), in_channels=3, classes=1).encoder.state_dict()
    save_file(source, tmp_path / "encoder.safetensors")

    own = create_model(
        with_weights(tmp_path / "encoder.safetensors", encoder="resnet18"),
        in_channels=3,
        classes=2,
    ).encoder.state_dict()

    assert own.keys() == source.keys()
    assert all(torch.equal(own[name], source[name]) for name in own)


def test_a_whole_network_without_a_tensor_is_refused(tmp_path):
    whole = timm.create_model("resnet10t", pretrained=False).state_dict()
    del whole["layer1.0.conv1.weight"]
    save_file(whole, tmp_path / "short.safetensors")

    with pytest.raises(
        SettingsError, match=r"lacks 1 tensors, model\.layer1\.0\.conv1\.weight the first; give"
    ):
        create_model(
            with_weights(tmp_path / "short.safetensors", encoder="tu-resnet10t"), in_channels=3, classes=3
        )


def test_torn_encoder_weights_are_refused(tmp_path):
    path = tmp_path / "torn.safetensors"
    save_file({"conv1.weight": torch.zeros(64)}, path)
    path.write_bytes(path.read_bytes()[:100])

    with pytest.raises(SettingsError, match=r"torn\.safetensors is not a whole safetensors file .*fetch it"):
        create_model(with_weights(path, encoder="tu-resnet10t"), in_channels=3, classes=3)


def test_weights_of_another_encoder_are_refused(tmp_path):
    save_file({"conv.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    settings = ModelSettings(**{**vars(SMALL), "encoder_weights": str(tmp_path / "other.safetensors")})

    with pytest.raises(SettingsError, match=r"other.safetensors lacks \d+ tensors"):
        create_model(settings, in_channels=3, classes=3)


def test_a_step_lowers_the_loss():
    torch.manual_seed(0)
    network, loss = create_model(SMALL, in_channels=3, classes=3), create_loss({"bce": 0.5, "dice": 0.5})
    images, masks = torch.rand(4, 3, 64, 64), (torch.rand(4, 3, 64, 64) > 0.7).float()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    before = loss(network(images), masks)
    before.backward()
    optimizer.step()

    assert loss(network(images), masks) < before


def test_dice_loss_of_a_sure_and_right_answer_is_nothing():
    target = torch.zeros(1, 2, 8, 8)
    target[:, :, 2:5, 2:5] = 1

    assert dice_loss((target * 2 - 1) * 50, target) == pytest.approx(0, abs=1e-6)


def test_dice_loss_of_known_overlap():
    target, logits = torch.zeros(1, 1, 1, 4), torch.full((1, 1, 1, 4), -50.0)
    target[..., :2] = 1
    logits[..., 1:3] = 50

    # one pixel shared of two each: 2*1 / (2+2)
    assert dice_loss(logits, target, smooth=0.0) == pytest.approx(0.5, abs=1e-6)


def test_losses_are_summed_by_weight():
    logits, target = torch.randn(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    bce, dice = create_loss({"bce": 1.0})(logits, target), create_loss({"dice": 1.0})(logits, target)

    torch.testing.assert_close(create_loss({"bce": 0.3, "dice": 2.0})(logits, target), 0.3 * bce + 2 * dice)


@pytest.mark.parametrize(
    ("weights", "message"),
    [({}, "training.loss is empty"), ({"dise": 1.0}, "no loss is called 'dise'; did you mean 'dice'")],
)
def test_an_unknown_loss_names_the_nearest(weights, message):
    with pytest.raises(SettingsError, match=message):
        create_loss(weights)


def test_windows_reach_the_network_in_order_whatever_the_batch_size():
    planes = np.arange(7, dtype=np.float32)[:, None, None] * np.ones((1, 4, 4), dtype=np.float32)
    positions = np.clip(np.arange(7)[:, None] + np.array([-1, 0, 1]), 0, 6)

    results = [
        predict_planes(lambda batch: batch, planes, positions, device=torch.device("cpu"), batch_size=size)
        for size in (1, 3, 16)
    ]

    for result in results:
        np.testing.assert_array_equal(result[:, :, 0, 0], positions)


def test_a_cpu_computes_in_float32_unless_told():
    assert select_precision(torch.device("cpu")) is None
    assert select_precision(torch.device("cpu"), "bf16") is torch.bfloat16
    with pytest.raises(SettingsError, match="must be auto, fp32, fp16, bf16"):
        select_precision(torch.device("cpu"), "fp8")
