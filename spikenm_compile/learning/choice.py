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

BETWEEN_NEURONS = "between spiking neurons"
FIRST_LAYER = "first layer: sees the input, not spikes"
CLASSIFIER = "classifier: no neuron behind it"
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
    if "weight" not in layer._parameters:
        return "its weight is computed, not stored (weight norm, parametrization)"
    kind = original_class(layer)
    if not _uses_weight_as_torch_does(kind):
        return f"class {kind.__name__} uses its weight in its own way"
    assert isinstance(layer.weight, Tensor)
    channels = layer.weight.shape[1]
    if pattern.divides(channels):
        return _straddles(layer, pattern)
    if isinstance(layer, CONVOLUTIONS) and layer.groups > 1:
        return f"grouped convolution with {channels} channels per group does not split into groups of {pattern.m}"
    return f"{channels} input channels do not split into groups of {pattern.m}"


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


def format_choices(choices: Sequence[Choice]) -> str:
    """A table of all layers, and how many weights are pruned and kept."""
    header = ("layer", "kind", "weight", "weights", "pattern", "why")
    table = format_table(header, [_row(c) for c in choices])
    total, kept = sum(c.weights for c in choices), sum(c.kept for c in choices)
    pruned = sum(c.pattern is not None for c in choices)
    stays = f"{kept} of {total} weights stay ({kept / total:.1%})"
    return f"{table}\n{pruned} of {len(choices)} layers learn a mask; {stays}"


def _row(choice: Choice) -> tuple[object, ...]:
    shape = "×".join(map(str, choice.shape))
    return (choice.layer, choice.kind, shape, choice.weights, choice.pattern or "dense", choice.why)


def _uses_weight_as_torch_does(kind: type[Any]) -> bool:
    """Whether no class between `kind` and torch's own touches the weight, so that a mask on it is seen."""
    convolution = convolution_of(kind)
    if convolution is None:
        return kind.forward is nn.Linear.forward
    ours = kind.__mro__[: kind.__mro__.index(convolution)]
    functions = [f for c in ours for f in vars(c).values() if hasattr(f, "__code__") and f.__name__ != "__init__"]
    is_plain = kind._conv_forward is convolution._conv_forward
    return is_plain and not any("weight" in f.__code__.co_names for f in functions)
