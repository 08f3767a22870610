"""What a library of spiking neurons has to say about its modules so that the frontend can read models built with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from spikenm_compile.neurons import Neuron

ModuleTypes = tuple[type[nn.Module], ...]


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
