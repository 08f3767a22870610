"""A wish for the firing rate of every layer: a penalty on the loss, differentiable through the surrogate gradients.

    penalty = strength · w(k) · Σ_layers relu(r / target - 1)²        r: firing rate of a layer (see `firing`)
    w(k)    = min(1, k / warmup)                                      k: penalties asked for so far

Squared distances from a wished rate are the regulariser of Bellec et al. (NeurIPS 2018; Nature Communications 11, 3625,
2020), for each neuron and from both sides; bounding the activity from above only is a choice of Zenke & Vogels (Neural
Computation 33(4), 2021). Ours is a bound from above on layers, since silence costs nothing on hardware that skips it:
on digits both sides gave the same rates and accuracy. Distances count in units of the target, so that one strength
suits all targets. A layer needs spikes enough to say something: below 5 % over 4 steps accuracy on digits broke down.
"""

from __future__ import annotations

from types import TracebackType
from typing import Self

import torch
from torch import Tensor, nn

from spikenm_compile.errors import InputError
from spikenm_compile.learning.firing import FiringRates


def excess(rate: Tensor, target: float) -> Tensor:
    """Squared relative excess of a rate over its target; 0 at and below it."""
    return torch.relu(rate / target - 1.0).square()


class ActivityTarget:
    """Brings the firing rates of `model` down to a target while it trains.

        with ActivityTarget(model, target=0.05) as activity:
            for x, y in batches:
                loss = criterion(model(x), y) + activity.penalty()

    Only calls in training mode count. In a distributed training each process sees the rates of its own batch, and the
    gradients are averaged. The warm-up is the only state: a training that goes on sets `step` to the penalties it has
    asked for.

    Args:
        model: any model with neuron modules, multi-step or single-step.
        target: spikes per neuron and time step that a layer may have without penalty, above 0.
        strength: weight of the penalty; 0.3 comes within a quarter of the target, 1 closer.
        warmup: penalties over which the strength rises from 0.

    Raises:
        InputError: a target or strength that is not positive, a negative warm-up, or no spiking neuron in the model.
    """

    def __init__(self, model: nn.Module, target: float = 0.05, strength: float = 0.3, warmup: int = 50) -> None:
        if target <= 0.0 or strength <= 0.0 or warmup < 0:
            raise InputError(
                f"target={target}, strength={strength} and warmup={warmup}: target and strength must be above 0 and "
                "the warm-up at least 0; leave the activity target away to switch it off"
            )
        self.target, self.strength, self.warmup = target, strength, warmup
        self.step = 0
        self._firing = FiringRates(model, training_only=True)
        self._last: dict[str, Tensor] = {}

    def penalty(self) -> Tensor:
        """What to add to the loss for the calls of the model since the last penalty; a scalar.

        Raises:
            InputError: no spiking neuron ran in training mode since then.
        """
        rates = self._firing.take()
        if not rates:
            raise InputError(
                "no spiking neuron has run in training mode since the last penalty; a penalty is for the forward pass "
                "in front of it; call model.train() and the model first, and penalty() once for each backward pass"
            )
        self.step += 1
        self._last = {name: rate.detach() for name, rate in rates.items()}
        return self.strength_at(self.step) * torch.stack([excess(r, self.target) for r in rates.values()]).sum()

    def rates(self) -> dict[str, float]:
        """Neuron module -> the firing rate that the last penalty saw."""
        return {name: float(rate) for name, rate in self._last.items()}

    def strength_at(self, step: int) -> float:
        """Weight of penalty number `step`, counted from 1."""
        return self.strength * min(1.0, step / self.warmup) if self.warmup else self.strength

    def remove(self) -> None:
        """Take the hooks away; the model is as it was."""
        self._firing.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()
