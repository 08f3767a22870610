"""What each pattern costs each layer in loss, one layer at a time: the weights are projected at once and put back.

    ΔL(layer, P) = L(model with P.project(weight) in that layer) - L(model)

A layer that learns its mask will lose less than this; what the figures are for is to compare layers and patterns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikenm_compile.errors import InputError
from spikenm_compile.frontend.adapters import reset_states
from spikenm_compile.pattern import Pattern

Loss = Callable[[nn.Module], float]
"""The loss of a model on calibration data: the same number for the same weights."""
Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True)
class LayerUse:
    """What a layer has and does; what costs are made of."""

    layer: str
    weights: int
    """Number of weights."""
    macs: int
    """Multiply-accumulates with all weights, over the calibration data, all time steps."""


def calibration_loss(batches: Sequence[Batch], criterion: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy) -> Loss:
    """Mean of `criterion(model(x), y)` over all samples of `batches`, in evaluation mode, states reset for each batch.

    A model that takes one step at a time needs a loss of your own, with its loop over time.

    Raises:
        InputError: no batch.
    """
    if not batches:
        raise InputError("no calibration batch was given; a few hundred samples tell layers apart; give at least one")

    @torch.no_grad()
    def loss(model: nn.Module) -> float:
        with evaluating(model):
            total = 0.0
            for x, y in batches:
                reset_states(model)
                total += float(criterion(model(x), y)) * len(y)
            reset_states(model)
            return total / sum(len(y) for _, y in batches)

    return loss


def measure_use(model: nn.Module, layers: Mapping[str, nn.Module], loss: Loss) -> tuple[float, tuple[LayerUse, ...]]:
    """The loss of the model as it is, and what its layers do meanwhile.

    Raises:
        InputError: the loss is no finite number.
    """
    macs = dict.fromkeys(layers, 0)

    def counting(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def count(layer: nn.Module, args: Any, output: Tensor) -> None:
            macs[name] += output.numel() * _weight(layer)[0].numel()

        return count

    with ExitStack() as stack:
        for name, layer in layers.items():
            stack.callback(layer.register_forward_hook(counting(name)).remove)
        base = _finite(loss(model), "the model as it is")
    return base, tuple(LayerUse(name, _weight(layer).numel(), macs[name]) for name, layer in layers.items())


def loss_increase(model: nn.Module, name: str, layer: nn.Module, pattern: Pattern, base: float, loss: Loss) -> float:
    """ΔL of `pattern` in one layer; its weights are afterwards what they were, bit for bit.

    Raises:
        InputError: the loss is no finite number.
    """
    with _projected(_weight(layer), pattern):
        return _finite(loss(model), f"layer '{name}' at {pattern}") - base


@contextmanager
def _projected(weight: Tensor, pattern: Pattern) -> Iterator[None]:
    kept = weight.detach().clone()
    try:
        weight.data.copy_(pattern.project(kept))
        yield
    finally:
        weight.data.copy_(kept)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode while it lasts; afterwards each module has its own back."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _weight(layer: nn.Module) -> Tensor:
    assert isinstance(layer.weight, Tensor)
    return layer.weight


def _finite(loss: float, where: str) -> float:
    if not math.isfinite(loss):
        raise InputError(
            f"the calibration loss of {where} is {loss}; layers are compared by finite losses; check the "
            "calibration data"
        )
    return loss
