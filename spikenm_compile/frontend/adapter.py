"""What a library of spiking neurons has to say about its modules so that the frontend can read models built with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from torch import nn

from spikenm_compile.errors import CaptureError
from spikenm_compile.frontend.recording import Record
from spikenm_compile.frontend.values import Layout
from spikenm_compile.frontend.wiring import Wiring
from spikenm_compile.neurons import Neuron

ModuleTypes = tuple[type[nn.Module], ...]
Recording = Callable[[nn.Module, Callable[[], bool], Record], AbstractContextManager[None]]
"""(model, is_recording, record) -> a block in which calls on the library that would run during a trace are recorded."""


def _no_recording(model: nn.Module, is_recording: Callable[[], bool], record: Record) -> AbstractContextManager[None]:
    return nullcontext()


def _output_only(module: nn.Module, output: Any, state: Callable[[str], Any]) -> Any:
    return output


def _no_states(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    if args or kwargs:
        raise CaptureError(
            f"a {type(module).__name__} is called with {1 + len(args) + len(kwargs)} arguments; it takes its input and "
            "keeps its state itself; call it with the input only"
        )
    return {}


def _one(module: nn.Module) -> int:
    return 1


def _no_wiring(module: nn.Module) -> Wiring | None:
    return None


def _time_first(module: nn.Module) -> Layout:
    return Layout()


def _any_input(module: nn.Module, shape: tuple[int, ...]) -> None:
    """Nothing to check."""


@dataclass(frozen=True)
class Adapter:
    """One library. No function here may import the library: a model of it can only exist once it is imported."""

    name: str
    stateful_types: Callable[[], ModuleTypes]
    """Modules that keep values from call to call; capture never looks inside them. Empty if the library is absent."""
    neuron_types: Callable[[], ModuleTypes]
    """The stateful modules that are spiking neurons, whether `canonical` can express them or not."""
    canonical: Callable[[nn.Module], Neuron]
    """The canonical neuron of a neuron module, learned values as they are now. Raises CaptureError if there is none."""
    is_multi_step: Callable[[nn.Module], bool]
    """Whether a module of the library takes all T steps at once, [T, B, ...]."""
    layer: Callable[[nn.Module], nn.Module | None]
    """Plain single-step torch layer that shares the parameters of the library's layer; None: not a layer of it."""
    reset: Callable[[nn.Module], None]
    """Forget the state of one stateful module."""
    recording: Recording = _no_recording
    """Records what else sets states during forward; `reset()` of stateful modules is recorded for every library."""
    returned: Callable[[nn.Module, Any, Callable[[str], Any]], Any] = _output_only
    """(neuron, output, state) -> what one call of the neuron returns, given its output and `state(name)`, the state of
    that name after the call. None: only running the neuron can tell."""
    given_states: Callable[[nn.Module, tuple[Any, ...], Mapping[str, Any]], Mapping[str, Any]] = _no_states
    """(neuron, args, kwargs behind the input) -> the states by name that a call gives to the neuron by hand."""
    check_input: Callable[[nn.Module, tuple[int, ...]], None] = _any_input
    """Raises CaptureError where the canonical neuron would mean something else for an input [B, ...] of that shape."""
    layout: Callable[[nn.Module], Layout] = _time_first
    """Where a multi-step neuron has time."""
    num_inputs: Callable[[nn.Module], int] = _one
    """How many tensors a call gives to the neuron in front of its states."""
    wiring: Callable[[nn.Module], Wiring | None] = _no_wiring
    """How layers inside a neuron module, or its own output, make the input currents of its canonical neuron. None: the
    currents are what the module is called with."""
