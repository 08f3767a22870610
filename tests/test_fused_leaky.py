"""The usual leaky neuron over all steps at once: the numbers and gradients of its equations, one at a time."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from spikenm_compile.neurons import IF, LIF, ParametricLIF, SpikingNeuron
from spikenm_compile.neurons.fused_leaky import fused_leaky


class ByEquations(LIF):
    def _fused(self, x: Tensor) -> None:
        return None


def trained(lif: SpikingNeuron, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Spikes of two calls, last potentials, gradient of x."""
    x = x.clone().requires_grad_()
    spikes = torch.cat((lif(x), lif(x.flip(0))))
    assert lif.v is not None
    ((spikes * torch.linspace(-1.0, 1.0, spikes.numel()).view_as(spikes)).sum() + lif.v.square().sum()).backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    return spikes.detach(), lif.v.detach(), x.grad


@pytest.mark.parametrize("tau", [2.0, 1.7])
@pytest.mark.parametrize("v_reset", [0.0, -0.3])
def test_spikes_potentials_and_gradients_are_equal(tau: float, v_reset: float) -> None:
    x = 1.5 * torch.randn(6, 4, 5, 3, generator=torch.Generator().manual_seed(0)) + 0.3
    fused, equations = (kind(tau, decay_input=False, v_reset=v_reset) for kind in (LIF, ByEquations))
    assert fused_leaky(fused.neuron, fused.alpha) is not None
    (s, v, g), (expected_s, expected_v, expected_g) = trained(fused, x), trained(equations, x)
    assert 0.0 < float(s.mean()) < 1.0
    assert torch.equal(s, expected_s)
    assert torch.equal(v, expected_v)
    assert torch.equal(g, expected_g)


def test_other_neurons_have_no_fused_form() -> None:
    others = (IF(), ParametricLIF(decay_input=False), LIF(decay_input=True), LIF(decay_input=False, v_reset=None))
    for layer in others:
        assert fused_leaky(layer.neuron, layer.alpha) is None
    assert LIF(decay_input=False, detach_reset=False)._fused(torch.zeros(2, 3)) is None


def test_states_of_another_shape_are_refused_as_before() -> None:
    lif = LIF(decay_input=False)
    lif(torch.zeros(2, 3, 4))
    with pytest.raises(RuntimeError, match="size"):
        lif(torch.zeros(2, 5, 4))


def test_a_channels_last_input_keeps_its_layout() -> None:
    x = torch.randn(8, 8, 3, 3).contiguous(memory_format=torch.channels_last).view(4, 2, 8, 3, 3)
    spikes = LIF(decay_input=False)(x)
    assert spikes.stride() == x.stride()
