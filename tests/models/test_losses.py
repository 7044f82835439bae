import numpy as np
import pytest
import torch

from gitract_kit.models.losses import create_loss, loss_names

TARGET = torch.zeros(2, 2, 8, 8)
TARGET[0, 0, 2:6, 2:5] = 1
TARGET[1, 0, 4:, :4] = 1
TARGET[1, 1, 0:3, 0:3] = 1


@pytest.mark.parametrize("name", loss_names())
def test_a_right_answer_costs_less_than_a_wrong_one(name):
    loss = create_loss({name: 1.0})
    right, unsure, wrong = (loss((TARGET * 2 - 1) * logit, TARGET) for logit in (9.0, 0.0, -9.0))

    assert right == pytest.approx(0, abs=2e-2)
    assert right < unsure < wrong


@pytest.mark.parametrize("name", loss_names())
def test_losses_take_soft_targets_in_half_precision_and_batches_without_any_organ(name):
    loss = create_loss({name: 1.0})
    logits = torch.randn(2, 2, 8, 8).half().requires_grad_()
    for target in (TARGET * 0.7, torch.zeros_like(TARGET)):
        value = loss(logits, target)
        value.backward()

        assert value.dtype == torch.float32
        assert torch.isfinite(value)
        assert torch.isfinite(logits.grad).all()


def test_tversky_of_known_overlap():
    target, logits = torch.zeros(1, 1, 1, 4), torch.full((1, 1, 1, 4), -50.0)
    target[..., :2] = 1
    logits[..., 1:4] = 50

    # one true, two false positives, one false negative, the latter two by half
    assert create_loss({"tversky": 1.0})(logits, target) == pytest.approx(1 - 1 / (1 + 1 + 0.5), abs=1e-5)


def test_focal_of_a_known_probability():
    logits, target = torch.full((1, 1, 1, 1), float(np.log(0.8 / 0.2))), torch.ones(1, 1, 1, 1)

    assert create_loss({"focal": 1.0})(logits, target) == pytest.approx(-(0.2**2) * np.log(0.8), abs=1e-6)


def test_lovasz_of_sure_answers_is_the_jaccard_loss():
    """The extension agrees with the Jaccard loss where errors are 0 or all alike (Berman et al. 2018)."""
    target, logits = torch.zeros(1, 1, 1, 8), torch.full((1, 1, 1, 8), -1.0)
    target[..., :4] = 1
    logits[..., 2:6] = 1

    # errors of the hinge are 0 where right and 2 where wrong
    assert create_loss({"lovasz": 1.0})(logits, target) == pytest.approx(2 * (1 - 2 / 6), abs=1e-6)
