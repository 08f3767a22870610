"""Modules of a captured graph in time: layers become plain single-step layers, neurons go to `lift_neurons`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from torch import nn

from spikenm_compile.errors import CaptureError
from spikenm_compile.frontend import reshape
from spikenm_compile.frontend.adapters import is_multi_step, is_neuron, plain_layer, stateful_types
from spikenm_compile.frontend.lift_neurons import NeuronLifter
from spikenm_compile.frontend.recording import AutogradFunction
from spikenm_compile.frontend.time_algebra import Time
from spikenm_compile.frontend.values import Sequence, Value, describe

_ABSENT = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
_SUPPORTED: tuple[type[nn.Module], ...] = (
    nn.Conv2d,
    nn.Linear,
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.Flatten,
)


class ModuleLifter:
    """Reads module calls in time order.

    Args:
        time: the step graph under construction.
        calls: number of calls of each single-step neuron in the whole graph.
    """

    def __init__(self, time: Time, calls: Counter[str]) -> None:
        self.time = time
        self.neurons = NeuronLifter(time, calls)

    def call(self, name: str, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """What `module`, the user's `name`, gives for a value in time."""
        (first, *others), named = (args, kwargs) if args else (list(kwargs.values())[:1], dict([*kwargs.items()][1:]))
        is_spiking = is_neuron(module)
        if not isinstance(first, Value) or ((others or named) and not is_spiking):
            raise CaptureError(
                f"'{name}' ({type(module).__name__}) is called with {len(args) + len(kwargs)} arguments, or with a "
                "constant; layers of a step take one traced tensor, neurons also their own states; keep state inside "
                "neurons only"
            )
        value = self.time.settled(first)
        if is_spiking:
            return self.neurons.call(name, module, value, tuple(others), named)
        return self._layer(name, module, value)

    def _layer(self, name: str, module: nn.Module, value: Value) -> Value:
        try:
            plain = plain_layer(module)
        except CaptureError as error:
            raise CaptureError(f"layer '{name}': {error}") from error
        if isinstance(plain, _ABSENT):
            return value
        if plain is None or not isinstance(plain, _SUPPORTED) or getattr(plain, "return_indices", False):
            raise CaptureError(_unsupported(name, module))
        if isinstance(plain, nn.Flatten) and plain.start_dim == 0:
            return reshape.rule("flatten")(self.time, value, 0, plain.end_dim)
        _check_layout(name, plain, value, multi_step=is_multi_step(module))
        if isinstance(plain, nn.Flatten):
            plain = nn.Flatten().eval()
        return self.time.layer(name, plain, value)


def _check_layout(name: str, plain: nn.Module, value: Value, *, multi_step: bool) -> None:
    """Whether the layer, as the user wrote it, computes each step by itself on a value of this layout."""
    is_sequence = isinstance(value, Sequence) and value.dim <= (0 if multi_step else 1)
    if isinstance(plain, nn.Linear):
        return
    if isinstance(plain, nn.Flatten):
        start = 2 if is_sequence and not multi_step else 1
        fits = plain.start_dim == start and plain.end_dim == -1 and (is_sequence or not multi_step)
    else:
        fits = is_sequence == multi_step
    if not fits:
        wanted = "a sequence [T, B, ...]" if multi_step else "one step [B, ...], or T steps as [T*B, ...]"
        raise CaptureError(
            f"layer '{name}' ({type(plain).__name__}) gets {describe(value)}; it takes {wanted}; set its step_mode, or "
            "flatten time into the batch with x.flatten(0, 1)"
        )


def _unsupported(name: str, module: nn.Module) -> str:
    kind = type(module).__name__
    if isinstance(module, AutogradFunction):
        return (
            f"the autograd function {module.function.__name__} is a spiking function written by hand; a step graph "
            "takes whole neurons; use the neurons of spikenm_compile.neurons, or make a neuron of yours known with "
            "spikenm_compile.register_neuron"
        )
    if isinstance(module, stateful_types()):
        return (
            f"layer '{name}' ({kind}) keeps a state that a step graph does not know; only neurons keep state there; "
            "replace it by neurons"
        )
    supported = ", ".join(cls.__name__ for cls in _SUPPORTED)
    return f"layer '{name}' is a {kind}; a step graph takes {supported} and neurons; replace it by one of these"
