"""SpikeNM: logits for each weight, Gumbel top-N, and the eligibility distillation as a second teacher.

    z = π + σ · g          h = top N of z          ∂L/∂π = w · G       straight-through, summed over a slab
    before the optimiser's step, once
        g = κ · (w·G) / RMS(w·G) + λ · (softmax(π) - q)                 q from `eid`

With a relaxation y(z) the first term goes through its Jacobian: κ · (∂y/∂z)ᵀ(w·G) / RMS(·).

Source: "Sparse by Rule: Probability-Based N:M Pruning for Spiking Neural Networks", arXiv 2511.12097: M logits for
each group, N basis vectors without replacement, a differentiable top-k, an at-most-N mask, and distillation of
accumulated credit into the mask's probabilities. The equations here are derived in this project from that description.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from spikenm_compile.learning.eid import eid_gradient, soft_target, update_credit
from spikenm_compile.learning.logits import WeightLogits, rms
from spikenm_compile.learning.options import LearnerName
from spikenm_compile.learning.parts import grouped, members_first, parts
from spikenm_compile.learning.sampling import RELAXATIONS, relaxed_gradient
from spikenm_compile.learning.sharding import local, mean_over_processes, rows_of, whole


class SpikeNM(WeightLogits):
    """`logits` [O/V, I, *kernel]; `credit` in the same shape, where there is a distillation to use it."""

    name: ClassVar[LearnerName] = "spikenm"

    credit: Tensor | None

    def start(self, weight: Tensor) -> None:
        """Register the credit."""
        super().start(weight)
        self._events: Tensor | None = None
        distils = self.options.schedule.eid > 0.0
        self.register_buffer("credit", torch.zeros_like(self.logits, requires_grad=False) if distils else None)

    @property
    def counts_events(self) -> bool:
        """Whether there is an unsigned credit."""
        return self.training and self.credit is not None and self.options.credit == "unsigned"

    def hear_events(self, amount: Tensor) -> None:
        """Add the events of a backward pass, those of all outputs of a slab together."""
        events = amount if self.pattern.v == 1 else self.pattern.slabs(amount).sum(1)
        self._events = events if self._events is None else self._events + events

    def logit_gradient(self, signal: Tensor, step: int) -> Tensor:
        """Turn w·G into g, part by part; updates the credit."""
        options, pattern = self.options, self.pattern
        task = signal if options.relaxation == "none" else self._through_relaxation(signal, step)
        factor = options.task_weight / rms(task)
        weight = options.schedule.eid_weight(step)
        if self.credit is None or weight == 0.0:
            return task.mul_(factor)
        logits, credits = whole(self.logits.detach()), whole(self.credit)
        for gradient, harm, credit, logit in parts(task, self._harm(signal), credits, logits):
            credit.copy_(update_credit(credit, harm, options.credit_decay))  # before `gradient`, which may be `harm`
            target = soft_target(members_first(credit, pattern), options.target_temperature)
            distilled = eid_gradient(options.schedule.logit_rate * members_first(logit, pattern), target)
            grouped(gradient.mul_(factor), pattern).add_(distilled, alpha=weight)
        if credits is not self.credit:
            local(self.credit).copy_(rows_of(credits, self.credit))
        return task

    def _through_relaxation(self, signal: Tensor, step: int) -> Tensor:
        """(∂y/∂z)ᵀ(w·G), part by part; the signal itself where everything is kept."""
        options, pattern, at_step = self.options, self.pattern, self.pattern_at(step)
        if at_step is None:
            return signal
        relaxation = RELAXATIONS[options.relaxation]
        result = self.perturbed(whole(self.logits.detach()), step)  # the scores, overwritten
        for scores, gradient in parts(result, signal):
            z, g = members_first(scores, pattern), members_first(gradient, pattern)
            relaxed = relaxed_gradient(z, g, at_step.n, options.relaxation_temperature, relaxation)
            grouped(scores, pattern).copy_(relaxed)
        return result

    def _harm(self, signal: Tensor) -> Tensor:
        """What the credit is the negative of: the signal w·G, or the events that were counted in this step."""
        events, self._events = self._events, None
        if events is None:
            return signal
        return -torch.nan_to_num(mean_over_processes(events), nan=0.0, posinf=0.0, neginf=0.0)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_events": None}

    def adapted(self, state_dict: Mapping[str, Any], prefix: str) -> dict[str, Any]:
        """A checkpoint without credit starts a new one; credit that nothing uses here is left out."""
        own = super().adapted(state_dict, prefix)
        if self.credit is None:
            own.pop(f"{prefix}credit", None)
        elif f"{prefix}nm" in own:
            own.setdefault(f"{prefix}credit", torch.zeros_like(self.credit))
        return own
