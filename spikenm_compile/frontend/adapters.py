"""The table of libraries the frontend reads, and questions put to all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn

from spikenm_compile.errors import CaptureError
from spikenm_compile.frontend.adapter import Adapter, ModuleTypes
from spikenm_compile.frontend.handwritten import HANDWRITTEN
from spikenm_compile.frontend.inline.leaf import INLINE
from spikenm_compile.frontend.layers import plain_standard_layer
from spikenm_compile.frontend.norse import NORSE
from spikenm_compile.frontend.recording import Record
from spikenm_compile.frontend.registered import REGISTERED
from spikenm_compile.frontend.sinabs import SINABS
from spikenm_compile.frontend.snntorch import SNNTORCH
from spikenm_compile.frontend.spikingjelly import SPIKINGJELLY
from spikenm_compile.frontend.values import Layout
from spikenm_compile.frontend.wiring import Wiring
from spikenm_compile.neurons import Neuron

ADAPTERS: tuple[Adapter, ...] = (REGISTERED, HANDWRITTEN, INLINE, SPIKINGJELLY, SNNTORCH, NORSE, SINABS)


def stateful_types() -> ModuleTypes:
    """Modules of all imported libraries that keep values from call to call."""
    return tuple(cls for adapter in ADAPTERS for cls in (*adapter.stateful_types(), *adapter.neuron_types()))


def layer_types() -> ModuleTypes:
    """Layers of all imported libraries that PyTorch does not know, each one node of a captured graph."""
    return tuple(cls for adapter in ADAPTERS for cls in adapter.layer_types())


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
    return _adapter_of(module).canonical(module)


def returned(module: nn.Module, output: Any, state: Callable[[str], Any]) -> Any:
    """What a call of a neuron returns, made of its output and its states; None: only running it can tell."""
    return _adapter_of(module).returned(module, output, state)


def given_states(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    """The states by name that a call gives to a neuron by hand, behind its input."""
    return _adapter_of(module).given_states(module, args, kwargs)


def check_input(module: nn.Module, shape: tuple[int, ...]) -> None:
    """Raises CaptureError where the canonical neuron would mean something else for an input [B, ...] of that shape."""
    _adapter_of(module).check_input(module, shape)


def layout(module: nn.Module) -> Layout:
    """Where a multi-step neuron has time."""
    return _adapter_of(module).layout(module)


def num_inputs(module: nn.Module) -> int:
    """How many tensors a call gives to a neuron in front of its states."""
    return _adapter_of(module).num_inputs(module)


def wiring(module: nn.Module) -> Wiring | None:
    """How layers inside a neuron module, or its own output, make its currents; None: a call gives the currents.

    Raises:
        CaptureError: the module feeds its output back in a way that cannot be told.
    """
    return _adapter_of(module).wiring(module)


def _adapter_of(module: nn.Module) -> Adapter:
    for adapter in ADAPTERS:
        if isinstance(module, adapter.neuron_types()):
            return adapter
    known = ", ".join(adapter.name for adapter in ADAPTERS if adapter not in (REGISTERED, INLINE))
    raise CaptureError(
        f"{type(module).__name__} is not a neuron of a known library ({known}); use a neuron of these, or "
        "make yours known with spikenm_compile.register_neuron"
    )


@contextmanager
def recorded_by_libraries(model: nn.Module, is_recording: Callable[[], bool], record: Record) -> Iterator[None]:
    """A block in which every library records what would change states of `model` during a trace."""
    with ExitStack() as stack:
        for adapter in ADAPTERS:
            stack.enter_context(adapter.recording(model, is_recording, record))
        yield


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
