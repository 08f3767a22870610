"""Learners with logits: parameters whose hard top choice is the mask, searched with noise that cools down.

z = π + σ · g,   g ~ Gumbel(0, 1)        π = logit_rate · logits
h = hard choice of z                      training
h = hard choice of π                      evaluation, frozen tail
"""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor, nn

from spikenm_compile.learning.mask import MaskLearner
from spikenm_compile.learning.sampling import gumbel, hard_mask_, initial_logits
from spikenm_compile.learning.sharding import local, rows_of, whole
from spikenm_compile.pattern import Pattern

SMALLEST_RMS = 1e-20


def rms(values: Tensor) -> Tensor:
    """Root of the mean square, over one layer: divides out the loss scale, the number of steps and the batch size."""
    precise = torch.promote_types(values.dtype, torch.float32)
    norm: Tensor = torch.linalg.vector_norm(values, dtype=precise)
    return norm / math.sqrt(values.numel()) + SMALLEST_RMS


class LogitLearner(MaskLearner):
    """A learner whose parameter `logits` is π / logit_rate."""

    logits: nn.Parameter

    def start(self, weight: Tensor) -> None:
        """Register the logits."""
        self.logits = nn.Parameter(self.first_logits(weight) / self.options.schedule.logit_rate)

    @abstractmethod
    def first_logits(self, weight: Tensor) -> Tensor:
        """π before the training."""

    @abstractmethod
    def choose(self, scores: Tensor, pattern: Pattern, outputs: int) -> Tensor:
        """The mask [O, I, *kernel] with O = `outputs` of largest `scores`, which have the shape of the logits.

        `scores` may be overwritten.
        """

    @abstractmethod
    def logit_gradient(self, signal: Tensor, step: int) -> Tensor:
        """What the optimiser shall see: from the accumulated gradient `signal`, both in the shape of the logits.

        `signal` may be overwritten.
        """

    def sample(self, weight: Tensor, step: int) -> Tensor:
        """The hard choice of the perturbed logits."""
        pattern = self.pattern_at(step)
        if pattern is None:
            return torch.ones_like(weight, requires_grad=False)
        return self.choose(self.perturbed(self.logits.detach(), step), pattern, len(weight))

    def harden(self, weight: Tensor) -> Tensor:
        """The hard choice of the logits without noise; the weight says no more than its shape."""
        return self.choose(whole(self.logits.detach()).clone(), self.pattern, len(weight))

    def finish_gradients(self, weight: Tensor, step: int, scale: Tensor | None) -> None:
        """Give the logits their gradient.

        In the frozen tail it is taken away, not set to zero: with zero the momentum would move π on, and the folded
        mask would not be the trained one.
        """
        gradient = self.logits.grad
        if gradient is None:
            return
        if self.options.schedule.is_frozen(step):
            self.logits.grad = None
            return
        # A step that a gradient scaler is about to skip has infinities: they must not stay in averages.
        signal = whole(gradient).nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)
        finished = self.logit_gradient(signal, step)
        if finished is not gradient or scale is not None:
            local(gradient).copy_(rows_of(finished if scale is None else finished * scale, gradient))

    def perturbed(self, logits: Tensor, step: int) -> Tensor:
        """Scores z of `logits`, in their shape: a function of them, the seed, the layer's name and the step."""
        schedule = self.options.schedule
        sigma = schedule.sigma(step)
        if sigma == 0.0:
            return schedule.logit_rate * logits
        noise = gumbel(logits, f"{self.options.seed}/{self.layer}/{step}")
        return noise.mul_(sigma).add_(logits, alpha=schedule.logit_rate)


class WeightLogits(LogitLearner):
    """One logit for each weight that a slab shares: `logits` [O/V, I, *kernel], straight-through."""

    def first_logits(self, weight: Tensor) -> Tensor:
        """The largest weights of each group start with the largest logits."""
        return initial_logits(weight, self.pattern)

    def choose(self, scores: Tensor, pattern: Pattern, outputs: int) -> Tensor:
        """Top N of each group."""
        return pattern.spread(hard_mask_(scores, pattern), outputs)

    def carrier(self, weight: Tensor) -> Tensor:
        """The logits themselves."""
        return self.pattern.spread(self.logits, len(weight))
