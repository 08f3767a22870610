"""Drawing N of M without replacement: Gumbel top-N on logits, and the relaxation that carries its gradient.

π0  = |w| / mean_group |w| - 1             first logits; |w| summed over the outputs of a slab
z   = π + σ · g,   g ~ Gumbel(0, 1)        perturbed logits; σ = 1 draws from softmax(π) without replacement
h   = one-hot union of the N largest z     the hard mask

Relaxations y of h, whose Jacobian carries the gradient:

    softmax    y = Σ_k a_k,  a_k = softmax(z_k / τ),  z_1 = z,  z_{k+1} = z_k + τ · log(1 - a_k)
    simple     y = ∂/∂s log e_N(exp s),  s = z / τ;   e_N: sum over all subsets of N members of the product of exp s

The perturbed top N as draws without replacement: Kool et al., "Stochastic Beams and Where to Find Them", ICML 2019.
`simple` is the exact marginal of each member in the distribution of N-subsets p(S) ∝ exp Σ_S s: Ahmed et al.,
"SIMPLE: A Gradient Estimator for k-Subset Sampling", ICLR 2023. There z is without noise; here it has that of the mask.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

import torch
from torch import Tensor

from spikenm_compile.learning.parts import grouped, members_first, parts
from spikenm_compile.pattern import Pattern

SMALLEST = 1e-12


Relaxation = Callable[[Tensor, int, float], Tensor]
"""(scores [..., M], N, temperature) -> y; each group sums to N."""


def initial_logits(weight: Tensor, pattern: Pattern) -> Tensor:
    """π0 [O/V, I, *kernel] of `weight` [O, I, *kernel]: the largest weights of a group start with the largest."""
    magnitude = weight.abs() if pattern.v == 1 else pattern.slabs(weight.abs()).sum(1)
    groups = pattern.groups(magnitude)
    return pattern.ungroup(groups / groups.mean(-1, keepdim=True).clamp_min(SMALLEST) - 1.0).contiguous()


def gumbel(like: Tensor, key: str) -> Tensor:
    """Gumbel(0, 1) noise in shape, dtype and device of `like`: -log(-log u), u = (2k + 1) / 2^24, k of 23 random bits.

    The noise is a function of `key` alone: every process of a distributed training draws the same mask, and a training
    that goes on from a checkpoint draws what it would have drawn. Two numbers come from one draw of 64 bits, which is
    several times quicker than to draw floats.
    """
    generator = torch.Generator(like.device).manual_seed(zlib.crc32(key.encode()))
    noise = torch.empty(like.numel(), device=like.device)
    for (part,) in parts(noise):
        draws = torch.empty(-(-len(part) // 2), dtype=torch.int64, device=like.device)
        bits = draws.random_(-(2**63), None, generator=generator).view(torch.int32)[: len(part)]
        odd = bits.bitwise_right_shift_(8).bitwise_or_(1)  # in (-2^23, 2^23)
        uniform = part.copy_(odd).mul_(2.0**-24).add_(0.5)
        uniform.log_().neg_().log_().neg_()
    return noise.view(like.shape).to(like.dtype)


def group_softmax(scores: Tensor) -> Tensor:
    """Softmax of groups [..., M]. Members come first in memory: ten times quicker than over M neighbours."""
    return scores.movedim(-1, 0).contiguous().softmax(0).movedim(0, -1)


def hard_mask(scores: Tensor, pattern: Pattern) -> Tensor:
    """Mask (0.0 or 1.0) of the N largest `scores` [O, I, *kernel] of each group, in the shape of `scores`."""
    return hard_mask_(scores.clone(memory_format=torch.contiguous_format), pattern)


def hard_mask_(scores: Tensor, pattern: Pattern) -> Tensor:
    """`hard_mask` in place of the scores."""
    for (part,) in parts(scores):
        grouped(part, pattern).copy_(pattern.top_n(members_first(part, pattern)))
    return scores


def successive_softmax(scores: Tensor, n: int, temperature: float) -> Tensor:
    """Relaxed mask y of `softmax` for groups [..., M]; each group sums to `n`."""
    left, relaxed = scores, torch.zeros_like(scores)
    for _ in range(n):
        share = group_softmax(left / temperature)
        relaxed = relaxed + share
        left = left + temperature * torch.log((1.0 - share).clamp_min(SMALLEST))
    return relaxed


def log_subsets(scores: Tensor, n: int) -> Tensor:
    """Logarithm of e_N(exp scores) of groups [..., M].

    e_0 = 1 and, member by member, e_k ← e_k + exp(s) · e_{k-1}; each group is shifted by its largest score first.
    """
    top = scores.detach().amax(-1, keepdim=True)
    sums = [torch.ones_like(top.squeeze(-1)), *[torch.zeros_like(top.squeeze(-1))] * n]
    for factor in (scores - top).exp().unbind(-1):
        sums = [sums[0], *(sums[k] + factor * sums[k - 1] for k in range(1, n + 1))]
    return sums[n].clamp_min(torch.finfo(scores.dtype).tiny).log() + n * top.squeeze(-1)


def subset_marginals(scores: Tensor, n: int, temperature: float) -> Tensor:
    """Relaxed mask y of `simple` for groups [..., M]: the chance of each member to be drawn; each group sums to `n`."""
    with torch.enable_grad():
        leaf = scores / temperature if scores.requires_grad else (scores / temperature).requires_grad_()
        marginals = torch.autograd.grad(log_subsets(leaf, n).sum(), leaf, create_graph=True)[0]
    return marginals if scores.requires_grad else marginals.detach()


RELAXATIONS: dict[str, Relaxation] = {"softmax": successive_softmax, "simple": subset_marginals}


def relaxed_gradient(
    scores: Tensor, gradient: Tensor, n: int, temperature: float, relaxation: Relaxation = successive_softmax
) -> Tensor:
    """∂L/∂z from ∂L/∂y through `relaxation`; all of groups [..., M]."""
    with torch.enable_grad():
        leaf = scores.detach().requires_grad_()
        return torch.autograd.grad(relaxation(leaf, n, temperature), leaf, gradient)[0]


def draw_gradient(logits: Tensor, scores: Tensor, n: int) -> Tensor:
    """∂ log p / ∂logits of the draw that took the `n` largest `scores` in falling order; groups [..., M].

    Without replacement: Σ_k (e_{i_k} - softmax of the logits that were left). `logits` are those drawn from, π / σ.
    """
    left, open_scores, gradient = logits.clone(), scores.clone(), torch.zeros_like(logits)
    for _ in range(n):
        best = open_scores.argmax(-1, keepdim=True)
        gradient -= group_softmax(left)
        gradient.scatter_add_(-1, best, torch.ones_like(best, dtype=gradient.dtype))
        for taken in (left, open_scores):
            taken.scatter_(-1, best, -float("inf"))
    return gradient
