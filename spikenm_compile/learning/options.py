"""How masks are learned: one flat set of options for every learner, and the numbers that name one in checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from spikenm_compile.errors import InputError
from spikenm_compile.learning.schedule import Schedule
from spikenm_compile.pattern import Pattern
from spikenm_compile.weight_types import WEIGHT_TYPES, WeightType

LearnerName = Literal["spikenm", "maskllm", "maskpro", "sr-ste", "asp", "random", "staggered", "spre", "subp", "phase"]
LEARNER_NAMES: tuple[LearnerName, ...] = get_args(LearnerName)
"""In the order of the numbers that checkpoints hold: append only."""

Relaxation = Literal["none", "softmax", "simple"]
Credit = Literal["signed", "unsigned"]


@dataclass(frozen=True, slots=True)
class MaskOptions:
    """How masks are learned; the defaults are those that were best over several data sets and patterns.

    Raises:
        InputError: a name that does not exist, or a number outside of its range.
    """

    schedule: Schedule = field(default_factory=Schedule)
    task_weight: float = 0.3
    """κ."""
    credit_decay: float = 0.9
    """μ."""
    credit: Credit = "signed"
    """spikenm: what the distillation goes by: what a synapse would take off the loss, which costs nothing, or how much
    it takes part, whatever the direction (learning.events), one more weight gradient for each backward pass."""
    target_temperature: float = 0.5
    """τ of the soft target."""
    relaxation: Relaxation = "none"
    """spikenm: what carries the task gradient to π: nothing (straight-through), the successive softmax, or the exact
    marginals of drawing N of M (SIMPLE)."""
    relaxation_temperature: float = 2.0
    """τ of the relaxation, and of maskllm's candidates; small values saturate and stop the search."""
    seed: int = 0
    """Seed of the mask noise, the same in all processes of a distributed training."""
    learner: LearnerName = "spikenm"
    """Who decides which weights stay. A staggered pattern has the staggered learner, whatever stands here."""
    pruned_decay: float = 2e-4
    """sr-ste, spre: λ, the decay of pruned weights."""
    dense_share: float = 0.5
    """asp: share of the training before weights are pruned."""
    baseline_decay: float = 0.99
    """maskpro: how slowly the average of the loss follows the loss."""
    weight_type: WeightType | None = None
    """Whole numbers that weights are rounded to in the frozen tail, in evaluation and by fold; None: they are not."""

    def __post_init__(self) -> None:
        if self.learner not in LEARNER_NAMES:
            raise InputError(f"learner '{self.learner}' does not exist; choose one of {', '.join(LEARNER_NAMES)}")
        for what, name, kind in (("relaxation", self.relaxation, Relaxation), ("credit", self.credit, Credit)):
            if name not in get_args(kind):
                raise InputError(f"{what} '{name}' does not exist; choose one of {', '.join(get_args(kind))}")
        self._check_weight_type()
        if self.learner == "maskpro" and self.schedule.noise == 0.0:
            raise InputError("maskpro learns from drawing different masks, and noise=0 draws none; give a larger noise")
        if self.learner == "maskllm" and self.schedule.progressive > 0.0:
            raise InputError(
                f"maskllm chooses among masks of N weights and cannot keep more at first, as progressive="
                f"{self.schedule.progressive} asks; leave it 0, or take another learner"
            )
        if self.pruned_decay < 0.0 or not 0.0 <= self.dense_share < 1.0 or not 0.0 <= self.baseline_decay < 1.0:
            raise InputError(
                f"pruned_decay={self.pruned_decay}, dense_share={self.dense_share}, "
                f"baseline_decay={self.baseline_decay}: the first is at least 0, the others at least 0 and below 1"
            )

    def _check_weight_type(self) -> None:
        if self.weight_type not in (None, *WEIGHT_TYPES):
            raise InputError(
                f"weights cannot be trained as '{self.weight_type}'; they can as {', '.join(WEIGHT_TYPES)}; choose one"
            )
        if self.weight_type is not None and self.learner == "spre":
            raise InputError(
                f"spre trains two weights that become one by fold, and neither of them is {self.weight_type}; leave "
                "weight_type away, or take another learner"
            )


def encode_identity(pattern: Pattern, learner: LearnerName) -> list[int]:
    """Pattern and learner as numbers for a checkpoint; N and M alone of what the first checkpoints could hold."""
    if pattern == pattern.plain and learner == "spikenm":
        return [pattern.n, pattern.m]
    return [pattern.n, pattern.m, pattern.v, int(pattern.staggered), LEARNER_NAMES.index(learner)]


def decode_identity(numbers: Sequence[int]) -> tuple[Pattern, LearnerName]:
    """Inverse of `encode_identity`.

    Raises:
        InputError: these numbers were not made by it.
    """
    match numbers:
        case [n, m]:
            return Pattern(n, m), "spikenm"
        case [n, m, v, staggered, learner] if 0 <= learner < len(LEARNER_NAMES):
            return Pattern(n, m, v, bool(staggered)), LEARNER_NAMES[learner]
    raise InputError(
        f"a mask is described by the numbers {list(numbers)}; N, M, V, staggered and the number of one of "
        f"{', '.join(LEARNER_NAMES)} are expected; use the version that wrote the checkpoint"
    )
