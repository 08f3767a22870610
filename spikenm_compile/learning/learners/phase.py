"""Phase: a staggered mask whose classes of channels, phases of outputs and phases of taps are learned (phases.py).

    h = 1                                          at first
    h = m(c, d, p) modulo M/N(t)                   whenever the number kept falls: of the largest Σ h · w²
    h = m(c, d, p) modulo M/N                      from then on; the mask stands still

N(t) falls by halves over the share `progressive` of the training, or of RAMP where the schedule says nothing. Each mask
is sought among the weights of the one before (learning.assignment), from STARTS random splits of its classes and one
fresh start. A kernel that walks spikes runs the mask as it runs N:M@stagger: it needs the order of channels and outputs
besides. `fold` leaves the phases behind as `layer.nm_phases`.

Derived in this project. What was tried, and how little there is to learn: benchmarks/results/learning/phase.md.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from spikenm_compile.errors import PatternError
from spikenm_compile.learning.assignment import Scores, best_phases, shuffled, split
from spikenm_compile.learning.mask import MaskLearner
from spikenm_compile.learning.options import LearnerName, MaskOptions
from spikenm_compile.pattern import Pattern
from spikenm_compile.phases import Phases, staggered_phases

RAMP = 0.3
"""Share of the training over which N falls, where the schedule does not say."""

STARTS = 8
"""Random starts of each search."""


class PhaseMask(MaskLearner):
    """`classes` holds c, d and p one after the other, modulo `modulus`; 1: nothing is pruned yet."""

    name: ClassVar[LearnerName] = "phase"
    is_fixed: ClassVar[bool] = True

    classes: Tensor
    modulus: Tensor

    def start(self, weight: Tensor) -> None:
        """Register the phases; raises PatternError where N does not divide M, or outputs share masks."""
        if self.pattern.m % self.pattern.n or self.pattern.v != 1:
            raise PatternError(
                f"phases of pattern {self.pattern} cannot be learned; N must divide M and slabs have a size of their "
                "own; write for example 2:8"
            )
        self.shape = tuple(weight.shape)
        count = self.shape[0] + self.shape[1] + math.prod(self.shape[2:])
        self.register_buffer("classes", torch.zeros(count, dtype=torch.int64, device=weight.device))
        self.register_buffer("modulus", torch.ones((), dtype=torch.int64, device=weight.device))
        self._final: tuple[object, Phases] | None = None

    @classmethod
    def describe(cls, options: MaskOptions) -> str:
        """One line for the user."""
        schedule = options.schedule.with_ramp(RAMP, "halving")
        if schedule.total_steps is None:
            return "trains dense until fold prunes; give total_steps so that training goes on after the pruning"
        return f"phases of channels, outputs and taps follow the weights while N falls{schedule.describe_ramp()}"

    def pattern_at(self, step: int) -> Pattern | None:
        """N is larger at first, and divides M; in a training of unknown length nothing is pruned."""
        schedule, pattern = self.options.schedule.with_ramp(RAMP, "halving"), self.pattern
        if schedule.total_steps is None:
            return None
        n = schedule.n_at(step, pattern)
        n = next(k for k in range(n, pattern.m + 1) if pattern.m % k == 0 and k % pattern.n == 0)
        return None if n == pattern.m else replace(pattern, n=n)

    def sample(self, weight: Tensor, step: int) -> Tensor:
        """The mask of the phases; seeks new ones where N has fallen."""
        pattern = self.pattern_at(step)
        if pattern is not None and pattern.m // pattern.n != int(self.modulus):
            self._keep(self._sought(weight, pattern))
        phases = self._kept()
        return torch.ones_like(weight, requires_grad=False) if phases is None else _as_mask(phases, weight)

    def harden(self, weight: Tensor) -> Tensor:
        """The mask of the phases that are final, or would be now."""
        return _as_mask(self.phases(weight), weight)

    def phases(self, weight: Tensor) -> Phases:
        """The phases that fold makes final, remembered until the weight changes: seeking them takes a while."""
        kept = self._kept()
        if kept is not None and kept.modulus == self.pattern.m // self.pattern.n:
            return kept
        key = (weight.data_ptr(), weight._version, int(self.modulus))
        if self._final is None or self._final[0] != key:
            self._final = key, self._sought(weight, self.pattern)
        return self._final[1]

    def facts(self, weight: Tensor) -> dict[str, object]:
        """The pattern, and the phases."""
        return {**super().facts(weight), "nm_phases": self.phases(weight)}

    def _kept(self) -> Phases | None:
        """What the buffers hold."""
        if int(self.modulus) == 1:
            return None
        outputs, inputs = self.shape[:2]
        channels, phases, taps = np.split(self.classes.cpu().numpy(), (inputs, inputs + outputs))
        return Phases(int(self.modulus), channels.copy(), phases.copy(), taps.copy())

    def _keep(self, phases: Phases) -> None:
        held = np.concatenate([phases.channels, phases.outputs, phases.taps])
        self.classes.copy_(torch.from_numpy(held))
        self.modulus.fill_(phases.modulus)

    def _sought(self, weight: Tensor, pattern: Pattern) -> Phases:
        """Phases of `pattern` with the largest Σ w² over the weights that are kept."""
        kept, modulus = self._kept(), pattern.m // pattern.n
        scores = _squares(weight)
        random = np.random.default_rng(zlib.crc32(f"{self.options.seed}/{self.layer}/{modulus}".encode()))
        fresh = staggered_phases(self.shape, pattern)
        if kept is not None:
            scores = np.where(kept.mask(), scores, 0.0)
        if kept is not None and modulus % kept.modulus == 0:
            starts = [split(kept, modulus, pattern.m, random) for _ in range(STARTS)]
        else:
            starts = [shuffled(fresh, pattern.m, random) for _ in range(STARTS)]
        return best_phases(scores, [fresh, *starts], pattern.m)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_final": None}


def _squares(weight: Tensor) -> Scores:
    """w² [O, T, I] of a weight [O, I, *kernel]."""
    by_tap = weight.detach().reshape(*weight.shape[:2], -1).transpose(1, 2)
    squares: Scores = by_tap.double().square().cpu().numpy()
    return squares


def _as_mask(phases: Phases, weight: Tensor) -> Tensor:
    return torch.from_numpy(phases.mask_of(tuple(weight.shape)).copy()).to(weight)
