"""SUBP: whole blocks are pruned by their redundancy, and fewer and fewer of them grow back by chance.

A block is what V consecutive outputs read from one input channel at all taps, so that all taps have the same mask.

    b_j   weights of block j of a slab            u_j = h_j · b_j / |h_j · b_j|₂
    s_j   = |b_j|₁ / Σ_i |b_i|₁ - a_j / Σ_i a_i,   a_j = Σ_i |u_j · u_i|       a block that is pruned has share 1
    h     = top N of s in each group, and R(t) of the other M - N, drawn without replacement from
            softmax(s' / τ), s' = s of those M - N divided by its L2 norm, τ = 1
    ∂L/∂w = G                                     dense straight-through ("soft")

R(t) = N(t) - N falls to 0 as the schedule says (`progressive`, `ramp_law`); where it says nothing, over the whole
search, cubic. The mask is drawn UPDATES times in the course of the training, and stands still in the tail.

Source: Xiang et al., "SUBP: Soft Uniform Block Pruning for 1×N Sparse CNNs Multithreading Acceleration", NeurIPS 2023,
sections 3.2 (criterion BPAR) and 3.3 (regrowing). There as many blocks stay in every slab, chosen among all input
channels, and the mask is drawn once per epoch until the end; here as many stay in every group of M input channels
besides, so that the weight holds V:N:M, and the cubic law is that of learning.schedule.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from spikenm_compile.learning.mask import MaskLearner
from spikenm_compile.learning.options import LearnerName, MaskOptions
from spikenm_compile.learning.sampling import gumbel
from spikenm_compile.learning.schedule import Schedule
from spikenm_compile.pattern import Pattern

UPDATES = 60
"""Times that the mask is drawn; the epochs of a usual training are as many."""

RAMP = 0.99
"""Share of the training over which fewer and fewer blocks grow back, at most up to the tail."""

SMALLEST = 1e-20


class SUBP(MaskLearner):
    """`kept` [O/V, I] are the blocks of the mask, drawn before step `drawn_at`."""

    name: ClassVar[LearnerName] = "subp"

    kept: Tensor
    drawn_at: Tensor

    def start(self, weight: Tensor) -> None:
        """Register the mask: all blocks."""
        slabs = -(-len(weight) // self.pattern.v)
        self.register_buffer("kept", torch.ones(slabs, weight.shape[1], dtype=torch.bool, device=weight.device))
        self.register_buffer("drawn_at", torch.full((), -1, dtype=torch.int64, device=weight.device))

    @classmethod
    def describe(cls, options: MaskOptions) -> str:
        """One line for the user."""
        if options.schedule.total_steps is None:
            return "trains dense until fold prunes; give total_steps so that blocks are pruned while it trains"
        return f"redundant blocks are pruned, and fewer and fewer grow back{_ramp(options).describe_ramp()}"

    def pattern_at(self, step: int) -> Pattern | None:
        """N is larger while blocks grow back; before a training of unknown length nothing is pruned."""
        if self.options.schedule.total_steps is None:
            return None
        n = _ramp(self.options).n_at(step, self.pattern)
        return None if n == self.pattern.m else replace(self.pattern, n=n)

    def sample(self, weight: Tensor, step: int) -> Tensor:
        """The blocks last drawn; draws where it is time to."""
        if self._is_due(step):
            self.kept.copy_(self._draw(weight, step))
            self.drawn_at.fill_(step)
        return self._of_weights(self.kept, weight)

    def harden(self, weight: Tensor) -> Tensor:
        """The blocks in use where N of each group are, otherwise the N of the largest scores."""
        in_use = self.kept.to(weight.dtype)
        best = self._best(block_scores(self._blocks(weight), self.kept))
        is_final = (self.pattern.groups(in_use).sum(-1) == self.pattern.n).all()
        return self._of_weights(torch.where(is_final, in_use, best), weight)

    def _is_due(self, step: int) -> bool:
        """Whether blocks are drawn before `step`: at even distances, and where the number kept falls."""
        schedule, last = self.options.schedule, int(self.drawn_at)
        if schedule.total_steps is None or step == last:
            return False
        if self.pattern_at(step) != self.pattern_at(max(last, 0)) or last < 0:
            return True
        return step - last >= max(1, schedule.total_steps // UPDATES) and not schedule.is_frozen(step)

    def _draw(self, weight: Tensor, step: int) -> Tensor:
        """Blocks [O/V, I]: the N best of each group, and as many of the others as grow back."""
        pattern = self.pattern_at(step)
        if pattern is None:
            return torch.ones_like(self.kept)
        scores = block_scores(self._blocks(weight), self.kept)
        best = self._best(scores).bool()
        others = self.pattern.groups(scores.masked_fill(best, 0.0))
        chances = self.pattern.ungroup(F.normalize(others, dim=-1))
        drawn = chances + gumbel(chances, f"{self.options.seed}/{self.layer}/{step}")
        return pattern.ungroup(pattern.top_n(pattern.groups(drawn.masked_fill(best, float("inf"))))).bool()

    def _best(self, scores: Tensor) -> Tensor:
        return self.pattern.ungroup(self.pattern.top_n(self.pattern.groups(scores)))

    def _blocks(self, weight: Tensor) -> Tensor:
        """[O, I, *kernel] as blocks [O/V, I, V·taps]."""
        return self.pattern.slabs(weight.detach()).movedim(2, 1).flatten(2)

    def _of_weights(self, blocks: Tensor, weight: Tensor) -> Tensor:
        """Blocks [O/V, I] as the mask [O, I, *kernel] of `weight`."""
        rows = self.pattern.spread(blocks.to(weight.dtype), len(weight))
        return rows.view(*rows.shape, *[1] * (weight.ndim - 2)).expand_as(weight).contiguous()


def _ramp(options: MaskOptions) -> Schedule:
    return options.schedule.with_ramp(RAMP, "cubic")


def block_scores(blocks: Tensor, kept: Tensor) -> Tensor:
    """Scores s [O/V, I] of `blocks` [O/V, I, V·taps]; those not `kept` [O/V, I] are redundant altogether."""
    norms = blocks.abs().sum(-1)
    magnitude = norms / norms.sum(-1, keepdim=True).clamp_min(SMALLEST)
    directions = F.normalize(blocks * kept[..., None], dim=-1)
    alike = (directions @ directions.transpose(-1, -2)).abs().sum(-1)
    redundancy = alike / alike.sum(-1, keepdim=True).clamp_min(SMALLEST)
    return magnitude - redundancy.masked_fill(alike == 0.0, 1.0)
