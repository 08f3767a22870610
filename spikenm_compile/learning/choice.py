"""Which layers get a mask, and the sentence that says why the others do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from spikenm_compile.learning.attach import CONVOLUTIONS, convolution_of, original_class
from spikenm_compile.learning.learners import LEARNERS
from spikenm_compile.learning.logits import LogitLearner
from spikenm_compile.learning.options import MaskOptions
from spikenm_compile.pattern import Pattern
from spikenm_compile.report.table import format_table
from spikenm_compile.weight_types import WeightType

BETWEEN_NEURONS = "between spiking neurons"
FIRST_LAYER = "first layer: sees the input, not spikes"
CLASSIFIER = "classifier: no neuron behind it"
NO_PATTERN = "no pattern was asked for"
ON_REQUEST = "on request"

MOST_SHARED = 4
"""Outputs that may share a learned mask: beyond, a fixed one is better (measured on small networks)."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What happens to the weight of one layer."""

    layer: str
    """Name of the layer in the model."""
    kind: str
    """Its class."""
    shape: tuple[int, ...]
    """Shape of its weight, [O, I / groups, *kernel]."""
    pattern: Pattern | None
    """N:M, or None: dense."""
    why: str
    weight_type: WeightType | None = None
    """Whole numbers that its weight is trained as, None: floats."""

    @property
    def weights(self) -> int:
        """Number of weights."""
        count = 1
        for size in self.shape:
            count *= size
        return count

    @property
    def kept(self) -> int:
        """Largest number of weights that stay."""
        return self.weights if self.pattern is None else self.weights * self.pattern.n // self.pattern.m


def obstacle(layer: nn.Module, pattern: Pattern) -> str | None:
    """Why `layer` (a convolution or Linear) cannot hold `pattern`, or None where it can."""
    if (closed := closed_weight(layer)) is not None:
        return closed
    assert isinstance(layer.weight, Tensor)
    channels = layer.weight.shape[1]
    if pattern.divides(channels):
        return _straddles(layer, pattern)
    if isinstance(layer, CONVOLUTIONS) and layer.groups > 1:
        return f"grouped convolution with {channels} channels per group does not split into groups of {pattern.m}"
    return f"{channels} input channels do not split into groups of {pattern.m}"


def closed_weight(layer: nn.Module) -> str | None:
    """Why nothing can stand between the weight of `layer` and its operation, or None where a learner can."""
    if "weight" not in layer._parameters:
        return "its weight is computed, not stored (weight norm, parametrization)"
    kind = original_class(layer)
    if not _uses_weight_as_torch_does(kind):
        return f"class {kind.__name__} uses its weight in its own way"
    return None


def _straddles(layer: nn.Module, pattern: Pattern) -> str | None:
    """Why the slabs of `pattern` do not suit a grouped convolution: outputs of two groups read other channels."""
    if not isinstance(layer, CONVOLUTIONS) or layer.groups == 1:
        return None
    outputs = layer.out_channels // layer.groups
    if outputs % pattern.v == 0:
        return None
    return f"grouped convolution with {outputs} outputs per group does not split into slabs of {pattern.v}"


def caution(choices: Sequence[Choice], options: MaskOptions) -> str | None:
    """A sentence about masks that more outputs share than learning them stands, or None."""
    wide = {c.layer: c.pattern.v for c in choices if c.pattern is not None and c.pattern.v > MOST_SHARED}
    if not wide or not issubclass(LEARNERS[options.learner], LogitLearner):
        return None
    return (
        f"warning: up to {max(wide.values())} outputs share a mask in {', '.join(wide)}; learned masks lose accuracy "
        f"above {MOST_SHARED}; take MaskOptions(learner='asp'), or a pattern N:M@stagger"
    )


def describe_rounding(choices: Sequence[Choice], options: MaskOptions) -> str | None:
    """A sentence about when weights become whole numbers, or None where none do."""
    if not any(c.weight_type for c in choices):
        return None
    first = options.schedule.first_frozen_step()
    if first is None:
        return "weights become whole numbers by fold alone; give total_steps so that training goes on with them"
    return f"weights are rounded to whole numbers from step {first} on, and by fold"


def format_choices(choices: Sequence[Choice]) -> str:
    """A table of all layers, and how many weights are pruned and kept."""
    header = ("layer", "kind", "weight", "weights", "pattern", "numbers", "why")
    rows = [_row(c) for c in choices]
    shown = [i for i, name in enumerate(header) if name != "numbers" or any(c.weight_type for c in choices)]
    table = format_table([header[i] for i in shown], [[row[i] for i in shown] for row in rows])
    total, kept = sum(c.weights for c in choices), sum(c.kept for c in choices)
    pruned = sum(c.pattern is not None for c in choices)
    stays = f"{kept} of {total} weights stay ({kept / total:.1%})"
    return f"{table}\n{pruned} of {len(choices)} layers learn a mask; {stays}"


def _row(choice: Choice) -> tuple[object, ...]:
    shape = "×".join(map(str, choice.shape))
    return (
        choice.layer,
        choice.kind,
        shape,
        choice.weights,
        choice.pattern or "dense",
        choice.weight_type or "",
        choice.why,
    )


def _uses_weight_as_torch_does(kind: type[Any]) -> bool:
    """Whether no class between `kind` and torch's own touches the weight, so that a mask on it is seen."""
    convolution = convolution_of(kind)
    if convolution is None:
        return kind.forward is nn.Linear.forward
    ours = kind.__mro__[: kind.__mro__.index(convolution)]
    functions = [f for c in ours for f in vars(c).values() if hasattr(f, "__code__") and f.__name__ != "__init__"]
    is_plain = kind._conv_forward is convolution._conv_forward
    return is_plain and not any("weight" in f.__code__.co_names for f in functions)
