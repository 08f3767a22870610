"""Layers inside a neuron module: how they make the neuron's currents out of its input and of what it emitted before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from torch import nn


class Source(Enum):
    """What the first layer of a wire reads at step t: x[t] is the module's input, s[t] its output."""

    INPUT = "x[t]"
    PREVIOUS = "s[t-1], with s[-1] = 0"
    INPUT_AND_PREVIOUS = "x[t] and s[t-1], one behind the other in the last dimension"
    OUTPUT = "s[t]; what the layers give reaches the neuron at step t+1, and the neuron gets 0 at step 0"


@dataclass(frozen=True)
class Wire:
    """One input current of the neuron: its layers, one after the other, on their source."""

    current: str
    """Name of the neuron's input."""
    source: Source
    layers: tuple[tuple[str, nn.Module], ...] = ()
    """(path inside the module, layer). A layer made for parameters of the module has the path of its weight."""


@dataclass(frozen=True)
class Wiring:
    """All input currents of a neuron module that has layers inside or reads its own output."""

    wires: tuple[Wire, ...]
    """In the order of `Neuron.inputs`."""
    state: str
    """Name, in the library's words, of what goes from step to step: the output or a current."""
    features: int | None = None
    """Size of the last dimension of the output, where it is not that of the first current."""
    unmaskable: str | None = None
    """Why the layers can learn no masks; None: they can, being modules of their own."""

    def layers(self) -> Iterator[tuple[str, nn.Module]]:
        """All layers with their paths."""
        for wire in self.wires:
            yield from wire.layers


def chain(path: str, module: nn.Module) -> tuple[tuple[str, nn.Module], ...]:
    """The layers of `module`: of a Sequential its own, one after the other, else itself."""
    if type(module) is not nn.Sequential:
        return ((path, module),)
    return tuple(layer for name, child in module.named_children() for layer in chain(f"{path}.{name}", child))
