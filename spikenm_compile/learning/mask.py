"""The mask learner of one layer: which N of each M weights stay, learned along with the weights.

    forward    w̃ = h · w                         h from `sampling`, one sample per optimiser step
    backward   ∂L/∂w = G = ∂L/∂w̃                  dense straight-through: pruned weights learn on
               ∂L/∂π = w · G                      straight-through
    before the optimiser's step, once
               g = κ · (w·G) / RMS(w·G) + λ · (softmax(π) - q)         q from `eid`

The second and third line need the sum over all backward passes of a step and are not linear in it, hence the split.
RMS makes λ independent of the loss scale, the number of time steps and the batch size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast
from weakref import WeakSet

import torch
from torch import Tensor, nn

from spikenm_compile.learning.eid import eid_gradient, soft_target, update_credit
from spikenm_compile.learning.sampling import gumbel, hard_mask, initial_logits, relaxed_gradient
from spikenm_compile.learning.schedule import Schedule
from spikenm_compile.pattern import Pattern

SMALLEST_RMS = 1e-20


@dataclass(frozen=True, slots=True)
class MaskOptions:
    """How masks are learned; the defaults are those that were best over several data sets and patterns."""

    schedule: Schedule = field(default_factory=Schedule)
    task_weight: float = 0.3
    """κ."""
    credit_decay: float = 0.9
    """μ."""
    target_temperature: float = 0.5
    """τ of the soft target."""
    relaxation: Literal["none", "softmax"] = "none"
    """What carries the task gradient to π: nothing (straight-through), or the successive softmax."""
    relaxation_temperature: float = 2.0
    """τ of the successive softmax; small values saturate and stop the search."""
    seed: int = 0
    """Seed of the mask noise, the same in all processes of a distributed training."""


class _MaskedWeight(torch.autograd.Function):
    """Weight times mask, with dense straight-through gradients to both."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, mask: Tensor, logits: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        return weight * mask

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor, None, Tensor]:
        (weight,) = ctx.saved_tensors
        return grad[0], None, weight * grad[0]


class MaskLearner(nn.Module):
    """Learns the mask of one weight [O, I, *kernel].

    Args:
        weight: the weight, with I a multiple of M.
        pattern: N:M.
        options: how the mask is learned.
        layer: name of the layer; makes its noise differ from that of the others.

    `logits` (parameter, shape of the weight) is π / logit_rate. `credit` and `step` are state; `nm` is (N, M), so that
    a checkpoint says which pattern it was trained with. In training the mask stays the same until the logits change,
    in evaluation it is the top N of π without noise.
    """

    credit: Tensor
    step: Tensor
    nm: Tensor

    def __init__(self, weight: Tensor, pattern: Pattern, options: MaskOptions | None = None, layer: str = "") -> None:
        super().__init__()
        self.pattern = pattern
        self.options = options or MaskOptions()
        self.layer = layer
        self.logits = nn.Parameter(initial_logits(weight.detach(), pattern) / self.options.schedule.logit_rate)
        self.register_buffer("credit", torch.zeros_like(self.logits, requires_grad=False))
        self.register_buffer("step", torch.zeros((), dtype=torch.int64, device=weight.device))
        self.register_buffer("nm", torch.tensor([pattern.n, pattern.m], device=weight.device))
        self._sample: tuple[int, Tensor] | None = None
        LEARNERS.add(self)

    def forward(self, weight: Tensor) -> Tensor:
        """The masked weight."""
        mask = self._sampled_mask() if self.training else self.final_mask()
        return cast("Tensor", _MaskedWeight.apply(weight, mask, self.logits))  # type: ignore[no-untyped-call]

    def final_mask(self) -> Tensor:
        """Top N of π, as 0.0 and 1.0 in the shape of the weight."""
        return hard_mask(self.logits.detach(), self.pattern)

    @torch.no_grad()
    def prepare_step(self) -> None:
        """Make the gradient of the logits what the optimiser shall see, and count the step.

        In the frozen tail the gradient is taken away, not set to zero: with zero the momentum would move π on, and the
        folded mask would not be the trained one.
        """
        step = int(self.step)
        if self.options.schedule.is_frozen(step):
            self.logits.grad = None
        elif self.logits.grad is not None:
            self.logits.grad.copy_(self._step_gradient(self.logits.grad, step))
        self.step += 1
        self._sample = None

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # the sample is made once per step, not once per graph
    def _sampled_mask(self) -> Tensor:
        version = self.logits._version
        if self._sample is None or self._sample[0] != version:
            self._sample = version, self._mask_at(int(self.step))
        return self._sample[1]

    def _mask_at(self, step: int) -> Tensor:
        n = self.options.schedule.n_at(step, self.pattern)
        return hard_mask(self._perturbed(step), self.pattern, n)

    def _perturbed(self, step: int) -> Tensor:
        """z, in the shape of the weight."""
        schedule = self.options.schedule
        scores = schedule.logit_rate * self.logits.detach()
        sigma = schedule.sigma(step)
        if sigma == 0.0:
            return scores
        return scores + sigma * gumbel(scores, f"{self.options.seed}/{self.layer}/{step}")

    def _step_gradient(self, signal: Tensor, step: int) -> Tensor:
        """Turn the accumulated w·G into g, both in the shape of the weight; updates the credit."""
        options, schedule, groups = self.options, self.options.schedule, self.pattern.groups
        # A step that a gradient scaler is about to skip has infinities: they must not stay in the credit.
        signal = torch.nan_to_num(signal, nan=0.0, posinf=0.0, neginf=0.0)
        self.credit.copy_(update_credit(self.credit, signal, options.credit_decay))
        target = soft_target(groups(self.credit), options.target_temperature)
        task = groups(signal)
        n = schedule.n_at(step, self.pattern)
        if options.relaxation == "softmax" and n < self.pattern.m:
            task = relaxed_gradient(groups(self._perturbed(step)), task, n, options.relaxation_temperature)
        task = options.task_weight * task / (task.square().mean().sqrt() + SMALLEST_RMS)
        eid = schedule.eid_weight(step) * eid_gradient(schedule.logit_rate * groups(self.logits), target)
        return self.pattern.ungroup(task + eid)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> MaskLearner:
        self._sample = None  # another device or dtype
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: Mapping[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        self._sample = None  # other logits, maybe another parameter altogether
        trained = state_dict.get(f"{prefix}nm")
        if trained is not None and tuple(trained.tolist()) != (self.pattern.n, self.pattern.m):
            n, m = trained.tolist()
            error_msgs.append(f"{prefix}logits were trained as {n}:{m}, and the model learns {self.pattern}")
            return
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_sample": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        LEARNERS.add(self)

    def extra_repr(self) -> str:
        """The pattern, for print(model)."""
        return f"{self.pattern}"


LEARNERS: WeakSet[MaskLearner] = WeakSet()
"""Every learner alive, copies and unpickled ones included: where the optimiser hook looks."""
