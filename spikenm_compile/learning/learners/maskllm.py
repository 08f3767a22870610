"""MaskLLM: one logit for each of the C(M, N) masks that a group can have.

    z = π + σ · g,   g ~ Gumbel(0, 1)          π [..., C], first π of a candidate: mean of its members' relative |w|
    h = candidate of the largest z
    y = Σ_c softmax(z / τ)_c · candidate_c      carries the gradient: ∂L/∂π = (∂y/∂π)ᵀ (w·G)
    before the optimiser's step, once: g = κ · ∂L/∂π / RMS(∂L/∂π)

Source: Fang et al., "MaskLLM: Learnable Semi-Structured Sparsity for Large Language Models", 2024, arXiv 2409.17481: a
categorical distribution over candidates, sampled with Gumbel noise and straight-through. There a pretrained model is
frozen and τ falls; here weights train along, τ stays (falling it saturates the search), and noise and rates are those
of `spikenm`, so that the two differ in the distribution alone. With N = 1 they are one and the same.
"""

from __future__ import annotations

import itertools
import math
from typing import ClassVar

import torch
from torch import Tensor

from spikenm_compile.errors import PatternError
from spikenm_compile.learning.logits import LOGIT_SPEED, LogitLearner, rms
from spikenm_compile.learning.options import LearnerName
from spikenm_compile.learning.sampling import initial_logits
from spikenm_compile.pattern import Pattern

MOST_CANDIDATES = 300


def candidates(pattern: Pattern) -> Tensor:
    """All masks of one group, [C(M, N), M], in lexicographic order."""
    members = torch.tensor(list(itertools.combinations(range(pattern.m), pattern.n)))
    return torch.zeros(len(members), pattern.m).scatter_(1, members, 1.0)


class MaskLLM(LogitLearner):
    """`logits` [O/V, *kernel, I/M, C].

    Raises:
        PatternError: more candidates than can be held.
    """

    name: ClassVar[LearnerName] = "maskllm"

    masks: Tensor
    """The candidates; not stored."""

    def start(self, weight: Tensor) -> None:
        """Register the logits and the candidates."""
        count = math.comb(self.pattern.m, self.pattern.n)
        if count > MOST_CANDIDATES:
            raise PatternError(
                f"layer '{self.layer}': {self.pattern} has {count} masks for each group, and maskllm holds a logit for "
                f"each of up to {MOST_CANDIDATES}; take the learner spikenm, which holds one for each weight"
            )
        super().start(weight)
        self._drawn: tuple[int, Tensor] | None = None
        self.register_buffer("masks", candidates(self.pattern).to(weight), persistent=False)

    def first_logits(self, weight: Tensor) -> Tensor:
        """Mean over the members that a candidate keeps."""
        groups = self.pattern.groups(initial_logits(weight, self.pattern))
        return groups @ candidates(self.pattern).to(weight).T / self.pattern.n

    def choose(self, scores: Tensor, pattern: Pattern, outputs: int) -> Tensor:
        """The candidate of the largest score."""
        mask = pattern.ungroup(self.masks[scores.argmax(-1)])
        return pattern.spread(mask, outputs).contiguous()

    def carrier(self, weight: Tensor) -> Tensor:
        """y: the candidates, weighed by their probabilities."""
        scores = LOGIT_SPEED * self.logits + self._noise()
        shares = (scores / self.options.relaxation_temperature).softmax(-1)
        return self.pattern.spread(self.pattern.ungroup(shares @ self.masks), len(weight))

    def logit_gradient(self, signal: Tensor, step: int) -> Tensor:
        """The accumulated gradient, free of the loss scale."""
        return self.options.task_weight * signal / rms(signal)

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # once per step, as the mask
    @torch.no_grad()
    def _noise(self) -> Tensor:
        """Perturbation σ · g of this step."""
        step = int(self.step)
        if self._drawn is None or self._drawn[0] != step or self._drawn[1].dtype != self.logits.dtype:
            self._drawn = step, self.perturbed(torch.zeros_like(self.logits), step)
        return self._drawn[1].to(self.logits.device)
