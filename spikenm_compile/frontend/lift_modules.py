"""Modules of a captured graph in time: layers become plain single-step layers, neurons go to `lift_neurons`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from spikenm_compile.errors import CaptureError
from spikenm_compile.frontend import lift_functions
from spikenm_compile.frontend.adapters import is_multi_step, is_neuron, plain_layer, stateful_types
from spikenm_compile.frontend.layer_rules import LAYER_RULES, check_layout, rule_of, without_side_effects
from spikenm_compile.frontend.lift_neurons import NeuronLifter
from spikenm_compile.frontend.recording import AutogradFunction
from spikenm_compile.frontend.time_algebra import Time
from spikenm_compile.frontend.values import Sequence, Step, Value

_ABSENT = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)


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
        function = None if is_multi_step(module) else _function_of(plain, value)
        if function is not None:
            return lift_functions.call(self.time, function[0], (value, *function[1:]), {})  # type: ignore[no-any-return]
        if plain is None or rule_of(plain) is None:
            raise CaptureError(_unsupported(name, module))
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


def _unsupported(name: str, module: nn.Module) -> str:
    kind = type(module).__name__
    if isinstance(module, AutogradFunction):
        return (
            f"the autograd function {module.function.__name__} is a spiking function written by hand; a step graph "
            "takes whole neurons; use the neurons of spikenm_compile.neurons"
        )
    if isinstance(module, stateful_types()):
        return (
            f"layer '{name}' ({kind}) keeps a state that a step graph does not know; only neurons keep state there; "
            "replace it by neurons"
        )
    supported = ", ".join(cls.__name__ for cls in (*LAYER_RULES, nn.Softmax, nn.Unflatten))
    return f"layer '{name}' is a {kind}; a step graph takes {supported} and neurons; replace it by one of these"
