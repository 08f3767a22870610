"""How the mask search cools down: pure functions of the share of training that is done.

    p      = step / total_steps                     0 at the first optimiser step
    c(p)   = max(0, 1 - p / (1 - d))                cooling; d is the share of the frozen tail
    σ(p)   = σ0 · c(p)                              scale of the Gumbel noise on the logits
    λ(p)   = λ0 · c(p)                              weight of the eligibility distillation (EID)
    frozen = p >= 1 - d                             the mask stands still; weights and batch norm adapt to it

Without `total_steps` nothing is known about the end: σ and λ keep their first value and the mask is never frozen.
"""

from __future__ import annotations

from dataclasses import dataclass

from spikenm_compile.errors import InputError


def cooling(progress: float, tail: float) -> float:
    """Linear from 1 at the start to 0 where the tail begins."""
    return max(0.0, 1.0 - progress / (1.0 - tail))


@dataclass(frozen=True, slots=True)
class Schedule:
    """Noise, distillation and tail of one mask search. Steps are optimiser steps.

    Raises:
        InputError: `total_steps` below 1, `tail` outside [0, 1), or a negative weight.
    """

    total_steps: int | None = None
    """Length of the training, or None: unknown, so that nothing cools down."""
    noise: float = 0.1
    """σ0. 1 samples from softmax(π) as it is, which costs accuracy in short runs; 0.3 to 1 pays in long ones."""
    eid: float = 0.1
    """λ0; 0 switches the distillation off; 0.3 to 1 suits a noise of 0.5 and more."""
    tail: float = 0.3
    """d: last share of the training with a frozen mask."""

    def __post_init__(self) -> None:
        if self.total_steps is not None and self.total_steps < 1:
            raise InputError(
                f"total_steps={self.total_steps} is not a length; give the number of optimiser steps, or None"
            )
        if not 0.0 <= self.tail < 1.0:
            raise InputError(f"tail={self.tail} leaves no mask search; the frozen share must be at least 0 and below 1")
        if self.noise < 0.0 or self.eid < 0.0:
            raise InputError(f"noise={self.noise} and eid={self.eid}: both must be 0 (off) or larger")

    def progress(self, step: int) -> float:
        """Share of the training that is done before `step`; 0 where the length is unknown."""
        return 0.0 if self.total_steps is None else step / self.total_steps

    def sigma(self, step: int) -> float:
        """σ at `step`."""
        return self.noise * cooling(self.progress(step), self.tail)

    def eid_weight(self, step: int) -> float:
        """λ at `step`."""
        return self.eid * cooling(self.progress(step), self.tail)

    def is_frozen(self, step: int) -> bool:
        """Whether the mask stands still at `step`."""
        return self.total_steps is not None and self.progress(step) >= 1.0 - self.tail

    def __str__(self) -> str:
        if self.total_steps is None:
            return (
                f"mask noise {self.noise:g} stays as it is; give total_steps so that it cools down and the mask freezes"
            )
        frozen_from = next(s for s in range(self.total_steps + 1) if self.is_frozen(s))
        return (
            f"mask noise {self.noise:g} cools down over {frozen_from} of {self.total_steps} steps; the rest is frozen"
        )
