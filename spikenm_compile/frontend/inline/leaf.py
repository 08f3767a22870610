"""A neuron found in a model's forward, as a module: one step, given its input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from spikenm_compile.errors import CaptureError
from spikenm_compile.frontend.adapter import Adapter, ModuleTypes
from spikenm_compile.neurons import Neuron, step


class InlineNeuron(nn.Module):
    """Keeps its states from call to call until `reset()`; no gradient goes through it.

    Args:
        neuron: the canonical neuron.
        returns: names of the output and of states, in the order in which a call returns them; one name: no tuple.
    """

    def __init__(self, neuron: Neuron, returns: tuple[str, ...]) -> None:
        super().__init__()
        self.neuron = neuron
        self.returns = returns
        self.states: tuple[Tensor, ...] | None = None

    def forward(self, *inputs: Tensor) -> Any:
        """One step."""
        states = self.states or tuple(torch.full_like(inputs[0], first) for first in self.neuron.states.values())
        output, self.states = step(inputs, states, self.neuron)
        by_name = dict(zip(self.neuron.states, self.states, strict=True))
        return self.returned(output, lambda name: by_name[name])

    def reset(self) -> None:
        """Forget the states."""
        self.states = None

    def returned(self, output: Any, state: Callable[[str], Any]) -> Any:
        """What a call returns."""
        values = tuple(output if name == self.neuron.output else state(name) for name in self.returns)
        return values[0] if len(values) == 1 else values

    def extra_repr(self) -> str:
        """The equations."""
        return str(self.neuron)


def _types() -> ModuleTypes:
    return (InlineNeuron,)


def _canonical(module: nn.Module) -> Neuron:
    if not isinstance(module, InlineNeuron):
        raise CaptureError(f"{type(module).__name__} is no InlineNeuron; only these are read here; use its own adapter")
    return module.neuron


def _is_multi_step(module: nn.Module) -> bool:
    return False


def _layer(module: nn.Module) -> nn.Module | None:
    return None


def _reset(module: nn.Module) -> None:
    assert isinstance(module, InlineNeuron)
    module.reset()


def _returned(module: nn.Module, output: Any, state: Callable[[str], Any]) -> Any:
    assert isinstance(module, InlineNeuron)
    return module.returned(output, state)


def _num_inputs(module: nn.Module) -> int:
    return len(_canonical(module).inputs)


INLINE = Adapter(
    "inline",
    _types,
    _types,
    _canonical,
    _is_multi_step,
    _layer,
    _reset,
    returned=_returned,
    num_inputs=_num_inputs,
)
