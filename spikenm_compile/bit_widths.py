"""What the weights of a trained model lose as whole numbers, of each type, and which type each layer may have.

    ΔL(layer, type) = L(model with the rounded weight in that layer) - L(model)

Only weights are rounded here, as lowering rounds them (weight_types); inputs off a grid lose something of their own,
which `verify ARTIFACT MODEL` shows. The first layer stays int8, since it sees the input and not spikes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikenm_compile.errors import InputError, PassError
from spikenm_compile.frontend.adapters import reset_states
from spikenm_compile.frontend.capture import capture
from spikenm_compile.frontend.inline.recognize import recognize_neurons
from spikenm_compile.learning.attach import learning_layers
from spikenm_compile.learning.options import MaskOptions
from spikenm_compile.learning.sensitivity import Batch, evaluating
from spikenm_compile.marks import WEIGHT_TYPE
from spikenm_compile.passes.insert_mask_learners import InsertMaskLearners
from spikenm_compile.report.table import format_table
from spikenm_compile.weight_types import WeightType, round_weight

KINDS: tuple[WeightType, ...] = ("int8", "int7", "int4")
FIRST: WeightType = "int8"
"""Of the first layer, and of layers that lose too much as anything smaller."""
CHOSEN = "chosen"


@dataclass(frozen=True, slots=True)
class Quality:
    """A model on the calibration data."""

    loss: float
    accuracy: float
    """Share of samples whose largest output is the label's."""


@dataclass(frozen=True, slots=True)
class LayerLoss:
    """What one layer loses."""

    layer: str
    weights: int
    increase: Mapping[WeightType, float]
    """Type -> increase of the loss with only this layer rounded."""
    chosen: WeightType


@dataclass(frozen=True, slots=True)
class BitWidths:
    """Result of `bit_width_report`; `weight_types` goes into `transform(model, weight_types=...)`, print shows all."""

    whole: Mapping[str, Quality]
    """float32, a type for all layers but the first, or CHOSEN -> the whole model."""
    layers: tuple[LayerLoss, ...]

    @property
    def weight_types(self) -> dict[str, WeightType]:
        """Layer -> the smallest type within its share of the tolerance."""
        return {found.layer: found.chosen for found in self.layers}

    def round_weights(self, model: nn.Module) -> nn.Module:
        """Round the weights of `model` to the chosen types, in place; `lower` and `compile_model` keep them so."""
        for name, kind in self.weight_types.items():
            layer = model.get_submodule(name)
            weight = layer.get_parameter("weight")
            weight.data.copy_(round_weight(weight, kind))
            setattr(layer, WEIGHT_TYPE, kind)
        return model

    def __str__(self) -> str:
        rows = [(name, f"{q.loss:.4f}", f"{q.accuracy:.2%}") for name, q in self.whole.items()]
        smallest = KINDS[::-1]
        of_layers = [
            (found.layer, found.weights, *(_signed(found.increase.get(kind)) for kind in smallest), found.chosen)
            for found in self.layers
        ]
        by_type = format_table(("weights", "loss", "accuracy"), rows)
        by_layer = format_table(("layer", "weights", *(f"loss, {kind}" for kind in smallest), CHOSEN), of_layers)
        return f"{by_type}\n\n{by_layer}"


def bit_width_report(
    model: nn.Module,
    batches: Sequence[Batch],
    *,
    criterion: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    tolerance: float = 0.01,
    example_inputs: Tensor | tuple[Tensor, ...] | None = None,
) -> BitWidths:
    """Measure loss and accuracy with weights in float32 and as whole numbers; the model is afterwards what it was.

    Args:
        model: trained, and folded where it had masks.
        batches: (inputs, labels) as the model takes them; outputs are class logits [B, classes].
        criterion: (outputs, labels) -> mean loss.
        tolerance: increase of the loss that all layers together may cost; each gets an equal share of it.
        example_inputs: one input; needed only where the model's Python code asks for a shape.

    Raises:
        InputError: no batch, or a negative tolerance.
        PassError: the model still learns masks or whole numbers.
        PatternError: the model has no layer whose weight could be rounded.
        CaptureError: the model cannot be captured.
    """
    if not batches or tolerance < 0.0:
        raise InputError(
            f"{len(batches)} calibration batches and tolerance={tolerance} were given; at least one batch and a "
            "tolerance of 0 or more are needed"
        )
    if (found := next(learning_layers(model), None)) is not None:
        raise PassError(f"layer '{found[0]}' is still learning; folded models are measured: call fold(model) first")
    captured = recognize_neurons(capture(model, example_inputs)).graph_module
    choices = InsertMaskLearners(None, MaskOptions(weight_type="int4")).choose(captured)
    allowed = {c.layer: _allowed(c.weight_type) for c in choices if c.weight_type is not None}

    def quality(types: Mapping[str, WeightType]) -> Quality:
        with _rounded(model, types):
            return _evaluate(model, batches, criterion)

    floats = quality({})
    layers = tuple(_layer_loss(model, name, allowed, floats, quality, tolerance) for name in allowed)
    whole = {"float32": floats}
    for kind in KINDS:
        whole[kind] = quality({name: kind if kind in kinds else FIRST for name, kinds in allowed.items()})
    whole[CHOSEN] = quality({found.layer: found.chosen for found in layers})
    return BitWidths(whole, layers)


def report_on_itself(model: nn.Module, example_inputs: Tensor) -> str:
    """The report where labels are missing: accuracy is agreement with the model in float32, on its example inputs.

    Raises:
        InputError: outputs are no class logits.
    """
    with torch.no_grad(), evaluating(model):
        reset_states(model)
        outputs = model(example_inputs)
        reset_states(model)
    if outputs.ndim != 2:
        raise InputError(
            f"the model returns {list(outputs.shape)}; what bits compares are class logits [B, classes]; call "
            "bit_width_report with a criterion of your own"
        )
    report = bit_width_report(model, [(example_inputs, outputs.argmax(-1))], example_inputs=example_inputs[:1])
    return f"{report}\n\naccuracy: agreement with float32 on {len(example_inputs)} example inputs"


def _allowed(kind: WeightType) -> tuple[WeightType, ...]:
    """The types of a layer that was given `kind` where int4 was asked for, the smallest first."""
    return KINDS[::-1] if kind == "int4" else (FIRST,)


def _layer_loss(
    model: nn.Module,
    name: str,
    allowed: Mapping[str, tuple[WeightType, ...]],
    floats: Quality,
    quality: Callable[[Mapping[str, WeightType]], Quality],
    tolerance: float,
) -> LayerLoss:
    increase = {kind: quality({name: kind}).loss - floats.loss for kind in allowed[name]}
    share = tolerance / len(allowed)
    chosen = next((kind for kind in allowed[name] if increase[kind] <= share), FIRST)
    return LayerLoss(name, model.get_submodule(name).get_parameter("weight").numel(), increase, chosen)


@contextmanager
def _rounded(model: nn.Module, types: Mapping[str, WeightType]) -> Iterator[None]:
    """Weights of these types while it lasts; afterwards what they were, bit for bit."""
    weights = {name: model.get_submodule(name).get_parameter("weight") for name in types}
    kept = {name: weight.detach().clone() for name, weight in weights.items()}
    try:
        for name, kind in types.items():
            weights[name].data.copy_(round_weight(kept[name], kind))
        yield
    finally:
        for name, weight in weights.items():
            weight.data.copy_(kept[name])


@torch.no_grad()
def _evaluate(model: nn.Module, batches: Sequence[Batch], criterion: Callable[[Tensor, Tensor], Tensor]) -> Quality:
    loss, right, count = 0.0, 0, sum(len(y) for _, y in batches)
    with evaluating(model):
        for x, y in batches:
            reset_states(model)
            outputs = model(x)
            loss += float(criterion(outputs, y)) * len(y)
            right += int((outputs.argmax(-1) == y).sum())
        reset_states(model)
    return Quality(loss / count, right / count)


def _signed(increase: float | None) -> str:
    return "" if increase is None else f"{increase:+.4f}"
