"""Eligibility-inspired distillation (EID): accumulated credit of each synapse becomes a soft target for the mask.

For a feed-forward layer of leaky neurons with detached resets, the three-factor credit (learning signal L, surrogate
derivative ψ, eligibility trace ε) summed over time, positions and batch is the gradient G of the masked weight:

    G_ij = Σ_t L_i(t) · ψ_i(t) · ε_ij(t) = Σ_t δ_i(t) · x_j(t)          δ = ∂L/∂current, x = presynaptic spikes

so that -w · G is, to first order, what switching the synapse on takes off the loss. It costs nothing: the dense
straight-through backward computes G at pruned weights too. Per group of M weights, with logits π:

    C ← μ·C + (1 - μ)·(-w·G)                 credit
    ĉ = (C - mean C) / (std C + ε)           z-score inside the group
    q = softmax(ĉ / τ)                       soft target, no gradient
    ∂/∂π KL(q ‖ softmax(π)) = softmax(π) - q

What is exact: G is the gradient of the surrogate network, whatever its resets and feedback, because δ is the total
derivative that backpropagation through time finds; so -w · G is exact to first order in one synapse. The reading as
three factors is exact for a feed-forward layer with detached resets. Where resets are not detached, or spikes are fed
back, δ also holds what reaches the loss through the neuron's own later resets and the other neurons' later spikes: no
product of a local trace and one learning signal gives that. First order leaves out that synapses switched together
interact.

With an unsigned credit (events.py) w·G gives way to -|w| · E, E = Σ |δ_i x_j|: how much a synapse takes part. It is
quieter, but says nothing of the direction, and prefers busy inputs.

The idea is that of SpikeNM (arXiv 2511.12097); the signed credit and the closed form are derived here. All tensors are
groups [..., M].
"""

from __future__ import annotations

from torch import Tensor

from spikenm_compile.learning.sampling import group_softmax

SMALLEST_STD = 1e-20
"""ε: credits are of the order 1e-8 and below, so that the usual 1e-8 would flatten them."""


def update_credit(credit: Tensor, signal: Tensor, decay: float) -> Tensor:
    """Credit after one step; `signal` is w·G and `decay` is μ."""
    return decay * credit - (1.0 - decay) * signal


def z_score(credit: Tensor) -> Tensor:
    """Credit with mean 0 and standard deviation 1 in each group; 0 where all members are equal."""
    centred = credit - credit.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True).sqrt() + SMALLEST_STD)


def soft_target(credit: Tensor, temperature: float) -> Tensor:
    """Probabilities q that sum to 1 in each group; `temperature` is τ."""
    return group_softmax(z_score(credit) / temperature)


def eid_gradient(logits: Tensor, target: Tensor) -> Tensor:
    """Gradient of Σ KL(target ‖ softmax(logits)) with respect to the logits."""
    return group_softmax(logits) - target
