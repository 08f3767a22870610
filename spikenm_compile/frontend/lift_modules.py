"""Modules of a captured graph in time: layers become plain single-step layers, neurons go to `lift_neurons`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from torch import nn

from spikenm_compile.errors import CaptureError
from spikenm_compile.frontend import reshape
from spikenm_compile.frontend.adapters import is_multi_step, is_neuron, num_inputs
from spikenm_compile.frontend.lift_neurons import NeuronLifter
from spikenm_compile.frontend.step_layers import step_layer
from spikenm_compile.frontend.time_algebra import Time
from spikenm_compile.frontend.values import Sequence, Value, describe


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
        given, named = (args, kwargs) if args else (list(kwargs.values())[:1], dict([*kwargs.items()][1:]))
        is_spiking = is_neuron(module)
        count = num_inputs(module) if is_spiking else 1
        inputs, others = [v for v in given[:count] if isinstance(v, Value)], given[count:]
        if len(inputs) != count or ((others or named) and not is_spiking):
            raise CaptureError(
                f"'{name}' ({type(module).__name__}) is called with {len(args) + len(kwargs)} arguments, or with a "
                "constant; layers of a step take one traced tensor, neurons one for each input and their own states; "
                "keep state inside neurons only"
            )
        values = tuple(self.time.settled(value) for value in inputs)
        if is_spiking:
            return self.neurons.call(name, module, values, tuple(others), named)
        return self._layer(name, module, values[0])

    def _layer(self, name: str, module: nn.Module, value: Value) -> Value:
        plain = step_layer(name, module)
        if plain is None:
            return value
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
