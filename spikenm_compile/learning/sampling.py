"""Drawing N of M without replacement: Gumbel top-N on logits, and the relaxation that carries its gradient.

π0  = |w| / mean_group |w| - 1             first logits
z   = π + σ · g,   g ~ Gumbel(0, 1)        perturbed logits; σ = 1 draws from softmax(π) without replacement
h   = one-hot union of the N largest z     the hard mask
y   = Σ_k a_k,  a_k = softmax(z_k / τ),  z_1 = z,  z_{k+1} = z_k + τ · log(1 - a_k)       successive softmax
"""

from __future__ import annotations

import zlib
from dataclasses import replace

import torch
from torch import Tensor

from spikenm_compile.pattern import Pattern

SMALLEST = 1e-12


def initial_logits(weight: Tensor, pattern: Pattern) -> Tensor:
    """π0 of `weight` [O, I, *kernel], in its shape: the largest weights of each group start with the largest logits."""
    groups = pattern.groups(weight.abs())
    return pattern.ungroup(groups / groups.mean(-1, keepdim=True).clamp_min(SMALLEST) - 1.0).contiguous()


def gumbel(like: Tensor, key: str) -> Tensor:
    """Gumbel(0, 1) noise in shape, dtype and device of `like`.

    The noise is a function of `key` alone: every process of a distributed training draws the same mask, and a training
    that goes on from a checkpoint draws what it would have drawn.
    """
    generator = torch.Generator(like.device).manual_seed(zlib.crc32(key.encode()))
    return -torch.empty_like(like, requires_grad=False).exponential_(generator=generator).clamp_min(SMALLEST).log()


def hard_mask(scores: Tensor, pattern: Pattern, n: int | None = None) -> Tensor:
    """Mask (0.0 or 1.0) of the N largest `scores` [O, I, *kernel] of each group, in the shape of `scores`.

    `n`, up to M, stands in for N while a search keeps more.
    """
    if n == pattern.m:
        return torch.ones_like(scores, requires_grad=False)
    kept = pattern if n is None else replace(pattern, n=n)
    return pattern.ungroup(kept.top_n(pattern.groups(scores))).contiguous()


def successive_softmax(scores: Tensor, n: int, temperature: float) -> Tensor:
    """y, the relaxed mask of groups [..., M]; each group sums to `n`."""
    left, relaxed = scores, torch.zeros_like(scores)
    for _ in range(n):
        share = (left / temperature).softmax(-1)
        relaxed = relaxed + share
        left = left + temperature * torch.log((1.0 - share).clamp_min(SMALLEST))
    return relaxed


def relaxed_gradient(scores: Tensor, gradient: Tensor, n: int, temperature: float) -> Tensor:
    """∂L/∂z from ∂L/∂y through `successive_softmax`; all of groups [..., M]."""
    with torch.enable_grad():
        leaf = scores.detach().requires_grad_()
        relaxed = successive_softmax(leaf, n, temperature)
        return torch.autograd.grad(relaxed, leaf, gradient)[0]
