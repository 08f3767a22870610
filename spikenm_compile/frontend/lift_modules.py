"""Modules of a captured graph in time: layers become plain single-step layers, neurons go to `lift_neurons`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from spikenm_compile.errors import CaptureError
from spikenm_compile.frontend import lift_functions
from spikenm_compile.frontend.adapters import is_multi_step, is_neuron, num_inputs
from spikenm_compile.frontend.layer_rules import check_layout, without_side_effects
from spikenm_compile.frontend.lift_neurons import NeuronLifter
from spikenm_compile.frontend.step_layers import step_layer
from spikenm_compile.frontend.time_algebra import Time
from spikenm_compile.frontend.values import Sequence, Step, Value


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
        function = None if is_multi_step(module) else _function_of(plain, value)
        if function is not None:
            return lift_functions.call(self.time, function[0], (value, *function[1:]), {})  # type: ignore[no-any-return]
        check_layout(name, plain, value, self.time.builder.shape(value.node), multi_step=is_multi_step(module))
        if isinstance(plain, nn.Flatten):
            plain = nn.Flatten().eval()
        self._refuse_norm_of_one_step(name, plain, value)
        return self.time.layer(name, without_side_effects(plain), value)

    def _refuse_norm_of_one_step(self, name: str, plain: nn.Module, value: Value) -> None:
        is_inner = isinstance(value, Step) and 0 < value.t < self.time.num_steps - 1
        if is_inner and isinstance(plain, _BatchNorm) and self.time.builder.find(name, (value.node,), {}) is None:
            raise CaptureError(
                f"layer '{name}' ({type(plain).__name__}) normalises one time step, and others have norms of their own "
                "(BNTT); a step graph computes the same at every step; use one batch norm for all steps"
            )


def _function_of(layer: nn.Module | None, value: Value) -> tuple[Any, ...] | None:
    """The function, and its arguments, that the layer is on dimensions of each sample; None of any other layer."""
    if isinstance(layer, nn.Softmax):
        return "softmax", layer.dim
    if isinstance(layer, nn.Unflatten):
        return "unflatten", layer.dim, layer.unflattened_size
    if not isinstance(layer, nn.Flatten):
        return None
    is_whole = layer.end_dim == -1 and layer.start_dim == (2 if isinstance(value, Sequence) else 1)
    return None if is_whole else ("flatten", layer.start_dim, layer.end_dim)
