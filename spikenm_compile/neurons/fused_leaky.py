"""The usual leaky neuron over all time steps at once, several times quicker to train than equation by equation.

    h_t = v_{t-1} - (v_{t-1} - v_reset) / τ + x_t         decay_input=False; without the reset, v_reset = 0
    s_t = [h_t >= v_threshold]
    v_t = v_reset where s_t, else h_t                       hard reset, detached

backward, with ψ the arctangent surrogate of `surrogate.ATan`, from the last step to the first

    ∂L/∂x_t     = ψ(h_t - v_threshold) · ∂L/∂s_t + (1 - s_t) · ∂L/∂v_t
    ∂L/∂v_{t-1} = ∂L/∂x_t - ∂L/∂x_t / τ

Operations have the order that they have in the equations and in autograd, so that all numbers are equal bit for bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from spikenm_compile.neurons.canonical import Neuron
from spikenm_compile.neurons.forms import leaky


@dataclass(frozen=True, slots=True)
class FusedLeaky:
    """A leaky neuron with hard, detached reset that `spikes_of` computes."""

    tau: float
    v_threshold: float
    v_reset: float
    alpha: float

    def spikes_of(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Spikes of currents x [T, B, ...] from potentials v [B, ...], and the potentials after them."""
        return cast("tuple[Tensor, Tensor]", _AllSteps.apply(x, v, self))  # type: ignore[no-untyped-call]


@lru_cache
def fused_leaky(neuron: Neuron, alpha: float) -> FusedLeaky | None:
    """The fused form of `neuron`, or None where its equations are others."""
    constants = neuron.scalars
    if not constants.keys() >= {"tau", "v_threshold", "v_reset"}:
        return None
    tau, threshold, reset = constants["tau"], constants["v_threshold"], constants["v_reset"]
    same = leaky(tau, decay_input=False, v_threshold=threshold, v_reset=reset)
    return FusedLeaky(tau, threshold, reset, alpha) if neuron == same else None


class _AllSteps(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, v: Tensor, neuron: FusedLeaky) -> tuple[Tensor, Tensor]:
        charged = torch.empty_like(x)
        for x_t, h in zip(x, charged, strict=True):
            above = v - neuron.v_reset if neuron.v_reset != 0.0 else v
            torch.add(v - above / neuron.tau, x_t, out=h)
            v = h.masked_fill(h >= neuron.v_threshold, neuron.v_reset)
        spikes = (charged >= neuron.v_threshold).to(x)
        ctx.save_for_backward(charged, spikes)
        ctx.neuron = neuron
        return spikes, v

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        charged, spikes = ctx.saved_tensors
        neuron: FusedLeaky = ctx.neuron
        into_spikes, into_v = grads
        # ψ · ∂L/∂s with ψ = α / 2 / (1 + (π/2·α·(h - v_threshold))²), in the order of operations of ATan
        grad = charged.sub(neuron.v_threshold).mul_(math.pi / 2 * neuron.alpha).square_().add_(1.0)
        grad.reciprocal_().mul_(neuron.alpha / 2).mul_(into_spikes)
        stays = 1.0 - spikes
        for into_x, stays_t in zip(reversed(grad.unbind()), reversed(stays.unbind()), strict=True):
            into_x.addcmul_(stays_t, into_v)
            into_v = into_x - into_x / neuron.tau
        return grad, into_v, None
