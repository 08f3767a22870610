"""A pattern for each layer of a trained model, chosen by what it costs in loss, under one budget for the whole network.

capture the model -> which layers can hold which patterns       (passes.insert_mask_learners)
project each layer by itself -> increase of the loss            (learning.sensitivity)
smallest sum of increases within the budget                     (learning.budget)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.fx import GraphModule

from spikenm_compile.errors import InputError, PatternError
from spikenm_compile.frontend.capture import capture
from spikenm_compile.frontend.inline.recognize import recognize_neurons
from spikenm_compile.learning.budget import Option, choose_options
from spikenm_compile.learning.sensitivity import LayerUse, Loss, loss_increase, measure_use
from spikenm_compile.passes.insert_mask_learners import InsertMaskLearners
from spikenm_compile.pattern import Pattern
from spikenm_compile.report.table import format_table

Cost = Callable[[LayerUse, Pattern | None], float]
"""What a layer costs with a pattern, or dense (None), in any unit: weights, multiply-accumulates, seconds, joules."""

DENSE = "dense"
PATTERNS = (DENSE, "2:4", "1:4", "2:8", "1:8", "1:16")


def kept_weights(use: LayerUse, pattern: Pattern | None) -> float:
    """Weights that stay."""
    return use.weights * density(pattern)


def kept_macs(use: LayerUse, pattern: Pattern | None) -> float:
    """Multiply-accumulates with weights that stay."""
    return use.macs * density(pattern)


def density(pattern: Pattern | None) -> float:
    """Share of weights that stays."""
    return 1.0 if pattern is None else pattern.density


@dataclass(frozen=True, slots=True)
class ChosenPatterns:
    """Result of `choose_patterns`; `layers` goes into `transform(model, layers=...)`, `toml()` into a recipe."""

    uses: tuple[LayerUse, ...]
    options: tuple[Option, ...]
    """What was chosen for each of `uses`."""
    loss: float
    """Loss of the model as it is."""
    share: float
    """Cost as a share of that of the dense layers."""

    @property
    def layers(self) -> dict[str, Pattern | None]:
        """Layer -> pattern, None: dense."""
        return {use.layer: option.pattern for use, option in zip(self.uses, self.options, strict=True)}

    def toml(self) -> str:
        """The table as TOML."""
        lines = (f'"{layer}" = "{pattern or DENSE}"' for layer, pattern in self.layers.items())
        return "\n".join(("[mask.layers]", *lines, ""))

    def __str__(self) -> str:
        header = ("layer", "weights", "pattern", "loss increase", "cost")
        rows = [
            (use.layer, use.weights, option.pattern or DENSE, f"{option.loss:+.4f}", f"{option.cost:g}")
            for use, option in zip(self.uses, self.options, strict=True)
        ]
        increase = sum(option.loss for option in self.options)
        return (
            f"{format_table(header, rows)}\n{self.share:.1%} of the cost of dense layers; loss {self.loss:.4f}, and "
            f"increases of {increase:.4f} in sum, before the masks are trained"
        )


def choose_patterns(
    model: nn.Module,
    loss: Loss,
    *,
    budget: float = 0.25,
    patterns: Sequence[Pattern | str | None] = PATTERNS,
    cost: Cost = kept_weights,
    example_inputs: Tensor | tuple[Tensor, ...] | None = None,
) -> ChosenPatterns:
    """Choose the pattern of each layer between spiking neurons; the model is afterwards what it was.

    Args:
        model: trained, at least for a while: a fresh model's loss says nothing about its layers.
        loss: model -> its loss on calibration data, for example `learning.calibration_loss(batches)`. Called once for
            each layer and pattern.
        budget: largest cost of these layers together, as a share of what they cost dense. The first layer, the
            classifier and others that stay dense anyway are not counted.
        patterns: what a layer may become, where its channels split into groups; "dense" or None: all weights.
        cost: what a layer costs with a pattern.
        example_inputs: one input; needed only where the model's Python code asks for a shape.

    Raises:
        PatternError: no layer can hold any of the patterns, or one cannot be read.
        InputError: no pattern, a budget that is not in (0, 1] or impossible, a loss or cost that is not finite.
        CaptureError: the model cannot be captured.
    """
    if not 0.0 < budget <= 1.0:
        raise InputError(f"budget={budget} is not a share of the dense cost; give more than 0 and at most 1")
    wanted = tuple(dict.fromkeys(None if p in (None, DENSE) else Pattern.parse(p) for p in patterns))
    captured = recognize_neurons(capture(model, example_inputs)).graph_module
    held = _held_patterns(captured, wanted)
    modules = {name: captured.get_submodule(name) for name in held}
    base, uses = measure_use(model, modules, loss)
    dense = _dense_cost(uses, cost)

    def option(use: LayerUse, pattern: Pattern | None) -> Option:
        name, share = use.layer, cost(use, pattern) / dense
        rise = 0.0 if pattern is None else loss_increase(model, name, modules[name], pattern, base, loss)
        return Option(pattern, rise, share)

    options = {use.layer: [option(use, pattern) for pattern in held[use.layer]] for use in uses}
    chosen = tuple(choose_options(options, budget).values())
    return ChosenPatterns(uses, chosen, base, sum(option.cost for option in chosen))


def _dense_cost(uses: Sequence[LayerUse], cost: Cost) -> float:
    dense = sum(cost(use, None) for use in uses)
    if not 0.0 < dense < math.inf:
        raise InputError(
            f"the dense layers cost {dense:g} together, which has no shares; a cost is a positive number; check the "
            "cost function, and that the loss runs the model"
        )
    return dense


def _held_patterns(captured: GraphModule, wanted: Sequence[Pattern | None]) -> Mapping[str, tuple[Pattern | None, ...]]:
    """Layer -> those of the wanted patterns that it can hold, for the layers that can hold one."""
    found = {pattern: _holders(captured, pattern) for pattern in wanted if pattern is not None}
    names = dict.fromkeys(name for holders in found.values() for name in holders)
    if not names:
        texts = ", ".join(map(str, found)) or "no pattern"
        raise PatternError(
            f"no layer of the model can hold one of the patterns ({texts}); layers between spiking neurons whose input "
            "channels split into groups can; give patterns with a smaller M"
        )
    return {name: tuple(p for p in wanted if p is None or name in found[p]) for name in names}


def _holders(captured: GraphModule, pattern: Pattern) -> tuple[str, ...]:
    try:
        choices = InsertMaskLearners(pattern).choose(captured)
    except PatternError:  # no layer at all
        return ()
    return tuple(choice.layer for choice in choices if choice.pattern is not None)
