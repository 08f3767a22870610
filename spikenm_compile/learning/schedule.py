"""How the mask search cools down: pure functions of the share of training that is done.

    p          step / total_steps                             0 at the first optimiser step
    x          min(1, p / (1 - d))                            d = tail
    c(p)       1 - x, or (1 + cos πx) / 2                     cooling_law: linear, cosine
    σ(p)       noise · c(p)                                   scale of the Gumbel noise on π
    λ(p)       eid · c(p)                                     weight of the eligibility distillation (EID)
    frozen(p)  p >= 1 - d                                     the mask stands still; weights and batch norm adapt to it

    N0         start_density · M                              kept of each group at first
    N(p)       N0, ⌈N0/2⌉, ⌈N0/4⌉, … > N, equally long        ramp_law: halving     } while p < r = progressive
               N + (N0 - N)·(1 - p/r)³, rounded               ramp_law: cubic       }
               N                                              from p = r on

The cubic law is that of Zhu & Gupta, "To prune, or not to prune" (arXiv 1710.01878), for the share of pruned weights; a
group keeps whole weights, hence the rounding. The search is hard, exactly N of M, from p = r on, and r may not reach
into the tail. Without `total_steps` nothing is known about the end: σ and λ keep their first value, the mask is never
frozen, and N is kept from the first step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, get_args

from spikenm_compile.errors import InputError
from spikenm_compile.pattern import Pattern

LOGIT_SPEED = 30.0
"""π = LOGIT_SPEED · logits. An Adam step moves each parameter by about the learning rate; within the search π must
move some units, weights some hundredths. In this unit one optimiser with one learning rate serves both. SGD at
its usual, larger rates serves both as well."""

CoolingLaw = Literal["linear", "cosine"]
RampLaw = Literal["halving", "cubic"]


def cooling(progress: float, tail: float, law: CoolingLaw = "linear") -> float:
    """c(p): from 1 at the start to 0 where the tail begins."""
    x = min(1.0, progress / (1.0 - tail))
    return 1.0 - x if law == "linear" else (1.0 + math.cos(math.pi * x)) / 2.0


def halvings(start: int, n: int) -> tuple[int, ...]:
    """`start` and its halves, rounded up, as long as they are above `n`."""
    kept = []
    while start > n:
        kept.append(start)
        start = -(-start // 2)
    return tuple(kept)


def halving(done: float, start: int, n: int) -> int:
    """Number kept when the share `done` (below 1) of the ramp from `start` to `n` is behind."""
    kept = halvings(start, n)
    return kept[int(done * len(kept))] if kept else n


def cubic(done: float, start: int, n: int) -> int:
    """Number kept when the share `done` (below 1) of the ramp from `start` to `n` is behind."""
    return round(n + (start - n) * (1.0 - done) ** 3)


RAMPS: dict[RampLaw, Callable[[float, int, int], int]] = {"halving": halving, "cubic": cubic}


@dataclass(frozen=True, slots=True)
class Schedule:
    """Noise, distillation, kept weights and tail of one mask search. Steps are optimiser steps.

    Raises:
        InputError: `total_steps` below 1, `tail` outside [0, 1), a negative weight, a ramp that reaches into the tail,
            an unknown law, or a rate or density that is not positive.
    """

    total_steps: int | None = None
    """Length of the training, or None: unknown, so that nothing cools down."""
    noise: float = 0.1
    """σ0. 1 samples from softmax(π) as it is, which costs accuracy in short runs; 0.3 to 1 pays in long ones."""
    eid: float = 0.1
    """λ0; 0 switches the distillation off; 0.3 to 1 suits a noise of 0.5 and more."""
    tail: float = 0.3
    """d: last share of the training with a frozen mask."""
    cooling_law: CoolingLaw = "linear"
    """How σ and λ fall."""
    progressive: float = 0.0
    """r: first share of the training, over which the number kept falls to N; 0 keeps N from the first step."""
    ramp_law: RampLaw = "halving"
    """How the number kept falls."""
    start_density: float = 1.0
    """Share of M that is kept first; 1 starts dense."""
    logit_rate: float = LOGIT_SPEED
    """π = logit_rate · logits: how many times quicker than weights π learns. Checkpoints hold logits in this unit."""

    def __post_init__(self) -> None:
        if self.total_steps is not None and self.total_steps < 1:
            raise InputError(
                f"total_steps={self.total_steps} is not a length; give the number of optimiser steps, or None"
            )
        if not 0.0 <= self.tail < 1.0:
            raise InputError(f"tail={self.tail} leaves no mask search; the frozen share must be at least 0 and below 1")
        if self.noise < 0.0 or self.eid < 0.0:
            raise InputError(f"noise={self.noise} and eid={self.eid}: both must be 0 (off) or larger")
        self._check_ramp()
        _check_law("cooling_law", self.cooling_law, get_args(CoolingLaw))
        if self.logit_rate <= 0.0:
            raise InputError(
                f"logit_rate={self.logit_rate} moves no logits; give a positive rate, {LOGIT_SPEED:g} is usual"
            )

    def _check_ramp(self) -> None:
        if not (0.0 <= self.progressive <= 1.0 - self.tail and self.progressive < 1.0):
            raise InputError(
                f"progressive={self.progressive} leaves no step at N in front of the frozen tail of {self.tail}; the "
                f"ramp must take at least 0 and at most {1.0 - self.tail:g}, and less than 1"
            )
        _check_law("ramp_law", self.ramp_law, get_args(RampLaw))
        if not 0.0 < self.start_density <= 1.0:
            raise InputError(
                f"start_density={self.start_density} is not a share of M; give more than 0 and at most 1 (dense)"
            )

    def with_ramp(self, share: float, law: RampLaw) -> Schedule:
        """Itself; where it has no ramp, with one of `law` over `share` of the training, at most up to the tail."""
        if self.progressive > 0.0:
            return self
        return replace(self, progressive=min(share, 1.0 - self.tail), ramp_law=law)

    def progress(self, step: int) -> float:
        """Share of the training that is done before `step`; 0 where the length is unknown."""
        return 0.0 if self.total_steps is None else step / self.total_steps

    def sigma(self, step: int) -> float:
        """σ at `step`."""
        return self.noise * self._cooling(step)

    def eid_weight(self, step: int) -> float:
        """λ at `step`."""
        return self.eid * self._cooling(step)

    def n_at(self, step: int, pattern: Pattern) -> int:
        """How many weights of each group are kept at `step`: `pattern.n` once the ramp is over, at most M before."""
        progress, n = self.progress(step), pattern.n
        if self.total_steps is None or progress >= self.progressive:
            return n
        start = max(n, round(self.start_density * pattern.m))
        return RAMPS[self.ramp_law](progress / self.progressive, start, n)

    def is_frozen(self, step: int) -> bool:
        """Whether the mask stands still at `step`."""
        return self.total_steps is not None and self.progress(step) >= 1.0 - self.tail

    def first_frozen_step(self) -> int | None:
        """The step from which on the mask stands still; None: there is none that is known."""
        return None if self.total_steps is None else self._first(self.is_frozen)

    def __str__(self) -> str:
        if self.total_steps is None:
            return (
                f"mask noise {self.noise:g} stays as it is; give total_steps so that it cools down and the mask freezes"
            )
        search = f"{self.first_frozen_step()} of {self.total_steps} steps"
        return f"mask noise {self.noise:g} cools down over {search}; the rest is frozen{self.describe_ramp()}"

    def describe_ramp(self) -> str:
        """One more line about the number kept, where it falls."""
        if self.total_steps is None or self.progressive == 0.0:
            return ""
        hard_from = self._first(lambda step: self.progress(step) >= self.progressive)
        start = "all" if self.start_density == 1.0 else f"{self.start_density:.0%}"
        return f"\nthe weights kept fall from {start} of each group to N over {hard_from} steps ({self.ramp_law})"

    def _cooling(self, step: int) -> float:
        return cooling(self.progress(step), self.tail, self.cooling_law)

    def _first(self, is_so: Callable[[int], bool]) -> int:
        assert self.total_steps is not None
        return next(s for s in range(self.total_steps + 1) if is_so(s))


def _check_law(option: str, law: str, known: tuple[str, ...]) -> None:
    if law not in known:
        raise InputError(f"{option}={law!r} is not a law; known are {', '.join(known)}")
