"""The table of libraries the frontend reads, and questions put to all of them."""

from __future__ import annotations

from torch import nn

from spikenm_compile.errors import CaptureError
from spikenm_compile.frontend.adapter import Adapter, ModuleTypes
from spikenm_compile.frontend.handwritten import HANDWRITTEN
from spikenm_compile.frontend.layers import plain_standard_layer
from spikenm_compile.frontend.spikingjelly import SPIKINGJELLY
from spikenm_compile.neurons import Neuron

ADAPTERS: tuple[Adapter, ...] = (HANDWRITTEN, SPIKINGJELLY)


def stateful_types() -> ModuleTypes:
    """Modules of all imported libraries that keep values from call to call."""
    return tuple(cls for adapter in ADAPTERS for cls in (*adapter.stateful_types(), *adapter.neuron_types()))


def is_neuron(module: nn.Module) -> bool:
    """Whether `module` is a spiking neuron of a known library."""
    return any(isinstance(module, adapter.neuron_types()) for adapter in ADAPTERS)


def is_multi_step(module: nn.Module) -> bool:
    """Whether `module` takes all T steps at once, [T, B, ...]."""
    return any(adapter.is_multi_step(module) for adapter in ADAPTERS)


def canonical(module: nn.Module) -> Neuron:
    """The canonical neuron of a neuron module.

    Raises:
        CaptureError: the neuron has no canonical form, or no library knows it.
    """
    for adapter in ADAPTERS:
        if isinstance(module, adapter.neuron_types()):
            return adapter.canonical(module)
    known = ", ".join(adapter.name for adapter in ADAPTERS)
    raise CaptureError(f"{type(module).__name__} is not a neuron of a known library ({known}); use a neuron of these")


def plain_layer(module: nn.Module) -> nn.Module | None:
    """Plain single-step torch layer that shares the parameters of `module`; None if it is not a layer."""
    for adapter in ADAPTERS:
        layer = adapter.layer(module)
        if layer is not None:
            return layer
    return plain_standard_layer(module)


def reset_states(model: nn.Module) -> None:
    """Forget the state of every stateful module inside `model`."""
    for module in model.modules():
        for adapter in ADAPTERS:
            if isinstance(module, adapter.stateful_types()):
                adapter.reset(module)
