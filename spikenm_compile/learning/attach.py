"""Learners on layers, in place: the layer's class becomes a subclass that masks or rounds its weight as it uses it.

The layer stays the same object with the same parameters under the same keys; `mask` is a child module. A subclass is
made once per original class. Pickling and copying name the original class, so that nothing generated has to be
importable.
"""

from __future__ import annotations

import copyreg
from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakSet

import torch.nn.functional as F
from torch import Tensor, nn

from spikenm_compile.errors import PassError
from spikenm_compile.learning.dense import DenseLearner
from spikenm_compile.learning.events import count_events
from spikenm_compile.learning.learner import WeightLearner
from spikenm_compile.learning.learners import make_learner
from spikenm_compile.learning.mask import MaskLearner
from spikenm_compile.learning.options import MaskOptions
from spikenm_compile.pattern import Pattern

CONVOLUTIONS: tuple[type[Any], ...] = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""Layers whose weight is [O, I / groups, *kernel] and goes through `_conv_forward`."""


def convolution_of(kind: type[Any]) -> type[Any] | None:
    """Torch's own class of a kind of convolution, None of any other layer."""
    return next((convolution for convolution in CONVOLUTIONS if issubclass(kind, convolution)), None)


def _conv_forward_of(convolution: type[Any]) -> Callable[..., Any]:
    def _conv_forward(self: Any, input: Tensor, weight: Tensor, bias: Tensor | None) -> Any:
        def operation(w: Tensor, b: Tensor | None) -> Any:
            return convolution._conv_forward(self, input, w, b)

        return _counted(self, input, self.mask.operate(operation, weight, bias))

    return _conv_forward


def _linear_forward(self: Any, input: Tensor) -> Tensor:
    return _counted(self, input, self.mask.operate(lambda w, b: F.linear(input, w, b), self.weight, self.bias))


def _counted(layer: Any, x: Tensor, output: Tensor) -> Tensor:
    """The output; its events are counted for a learner that asks for them."""
    return count_events(output, x, layer, layer.mask) if layer.mask.counts_events and output.requires_grad else output


def _rebuild(original: type[Any]) -> nn.Module:
    """An empty masked layer, for pickle and copy to fill."""
    masked = masked_class(original)
    layer = masked.__new__(masked)
    MASKED_LAYERS.add(layer)
    return layer


def _reduce_ex_of(original: Any) -> Callable[..., tuple[Any, ...]]:
    def _reduce_ex(self: nn.Module, protocol: Any) -> tuple[Any, ...]:
        reduced: object = original.__reduce_ex__(self, max(protocol, 2))
        assert isinstance(reduced, tuple)
        assert reduced[0] is copyreg.__newobj__  # type: ignore[attr-defined]
        return _rebuild, (original,), *reduced[2:]

    return _reduce_ex


def learner_of(layer: nn.Module) -> WeightLearner | None:
    """The learner of `layer`, None where it has none."""
    learner = vars(layer).get("_modules", {}).get("mask")  # a layer that is being unpickled has no modules yet
    return learner if isinstance(learner, WeightLearner) else None


def original_class(layer: nn.Module) -> type[Any]:
    """Class of `layer` without its mask."""
    return getattr(type(layer), "_class_without_mask", type(layer))


_MASKED_CLASSES: dict[type[Any], type[nn.Module]] = {}


def masked_class(original: type[Any]) -> type[nn.Module]:
    """The subclass of `original` (a convolution or Linear) that masks its weight; the same each time."""
    if original in _MASKED_CLASSES:
        return _MASKED_CLASSES[original]
    convolution = convolution_of(original)
    uses_weight = {"forward": _linear_forward}
    if convolution is not None:
        uses_weight = {"_conv_forward": _conv_forward_of(convolution)}
    namespace = {
        "__module__": original.__module__,
        "__doc__": original.__doc__,
        "__reduce_ex__": _reduce_ex_of(original),
        "_class_without_mask": original,
    }
    masked = type(f"Masked{original.__name__}", (original,), namespace | uses_weight)
    return _MASKED_CLASSES.setdefault(original, masked)


MASKED_LAYERS: WeakSet[nn.Module] = WeakSet()
"""Every masked layer alive, copies and unpickled ones included: where the optimiser hook looks."""


def attach_mask(layer: nn.Module, pattern: Pattern, options: MaskOptions | None = None, name: str = "") -> MaskLearner:
    """Let `layer` learn a mask; returns the learner, which is `layer.mask` from now on.

    Raises:
        PassError: the layer has something called `mask` already.
        PatternError: the learner cannot learn this pattern.
    """
    _check_free(layer, name)
    learner = make_learner(_weight(layer), pattern, options, name)
    _attach(layer, learner)
    return learner


def attach_dense(layer: nn.Module, options: MaskOptions, name: str = "") -> DenseLearner:
    """Let the weight of `layer` become the whole numbers of `options` while it trains, without a mask.

    Raises:
        PassError: the layer has something called `mask` already.
    """
    _check_free(layer, name)
    learner = DenseLearner(_weight(layer), options, name)
    _attach(layer, learner)
    return learner


def _check_free(layer: nn.Module, name: str) -> None:
    if hasattr(layer, "mask"):
        raise PassError(
            f"layer '{name}' has an attribute 'mask' already; fold a transformed model, or rename the attribute"
        )


def _weight(layer: nn.Module) -> Tensor:
    assert isinstance(layer.weight, Tensor)
    return layer.weight


def _attach(layer: nn.Module, learner: WeightLearner) -> None:
    learner.train(layer.training)
    layer.mask = learner
    layer.__class__ = masked_class(type(layer))
    MASKED_LAYERS.add(layer)


def detach_mask(layer: nn.Module) -> None:
    """Give `layer` its own class back and drop its mask; the weight is left as it is."""
    layer.__class__ = original_class(layer)
    del layer.mask
    MASKED_LAYERS.discard(layer)


def learning_layers(model: nn.Module) -> Iterator[tuple[str, nn.Module, WeightLearner]]:
    """(name, layer, learner) of every layer of `model` that has one, with a mask or without."""
    for name, layer in model.named_modules():
        learner = learner_of(layer)
        if learner is not None:
            yield name, layer, learner


def masked_layers(model: nn.Module) -> Iterator[tuple[str, nn.Module, MaskLearner]]:
    """(name, layer, learner) of every masked layer of `model`."""
    for name, layer, learner in learning_layers(model):
        if isinstance(learner, MaskLearner):
            yield name, layer, learner
