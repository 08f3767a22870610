"""What patterns cost layers in loss, measured on models that stay what they are."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikenm_compile.errors import InputError
from spikenm_compile.learning import calibration_loss
from spikenm_compile.learning.sensitivity import LayerUse, loss_increase, measure_use
from spikenm_compile.pattern import Pattern
from spikenm_compile.training.digits import DigitsNet, digits_net
from spikenm_compile.training.loop import reset_neurons


def batches() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [(torch.rand(n, 1, 8, 8, generator=generator), torch.arange(n) % 10) for n in (12, 4)]


def network() -> DigitsNet:
    """Its weights are large, so that all layers fire in evaluation mode too."""
    torch.manual_seed(0)
    model = digits_net().train()
    for layer in (model.block1.conv, model.block2.conv, model.block3.conv, model.block4.conv):
        layer.weight.data *= 5.0
    return model


@pytest.mark.parametrize("pattern", ["1:8", "4:1:8", "2:8@stagger"])
def test_the_increase_is_that_of_a_model_with_projected_weights(pattern: str) -> None:
    model, loss = network(), calibration_loss(batches())
    other = copy.deepcopy(model)
    other.block3.conv.weight.data = Pattern.parse(pattern).project(other.block3.conv.weight.data)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    base = loss(model)
    found = loss_increase(model, "block3.conv", model.block3.conv, Pattern.parse(pattern), base, loss)
    assert found == loss(other) - base != 0.0
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(module.training for module in model.modules())


def test_weights_come_back_when_the_loss_fails() -> None:
    model = network()
    weight = model.block3.conv.weight.detach().clone()

    def fails(model: nn.Module) -> float:
        raise RuntimeError("no data")

    with pytest.raises(RuntimeError, match="no data"):
        loss_increase(model, "block3.conv", model.block3.conv, Pattern(1, 8), 0.0, fails)
    assert torch.equal(weight, model.block3.conv.weight)


def test_the_calibration_loss_is_the_mean_over_all_samples() -> None:
    model = network().eval()
    total = 0.0
    for x, y in batches():
        reset_neurons(model)
        total += float(F.cross_entropy(model(x), y, reduction="sum").detach())
    assert calibration_loss(batches())(model) == pytest.approx(total / 16)
    assert not model.training


def test_use_counts_weights_and_multiply_accumulates_over_steps_and_samples() -> None:
    model = network()
    layers = {"block3.conv": model.block3.conv, "classifier": model.classifier}
    _, uses = measure_use(model, layers, calibration_loss(batches()))
    assert uses == (
        LayerUse("block3.conv", 32 * 32 * 9, 4 * 16 * (4 * 4) * 32 * 32 * 9),  # 4 steps, 16 samples, 4×4 positions
        LayerUse("classifier", 10 * 128, 4 * 16 * 10 * 128),
    )
    assert not model.classifier._forward_hooks


def test_losses_that_compare_nothing_are_refused() -> None:
    model = network()
    with pytest.raises(InputError, match="no calibration batch was given"):
        calibration_loss([])
    with pytest.raises(InputError, match=r"loss of the model as it is is nan.*check the calibration data"):
        measure_use(model, {}, lambda model: float("nan"))
    with pytest.raises(InputError, match=r"loss of layer 'block3\.conv' at 1:8 is inf"):
        loss_increase(model, "block3.conv", model.block3.conv, Pattern(1, 8), 0.0, lambda model: float("inf"))
