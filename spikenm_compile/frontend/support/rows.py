"""One row for each neuron class of a library that is installed, asked of the library's adapter."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from spikenm_compile.errors import CaptureError
from spikenm_compile.frontend.adapter import Adapter
from spikenm_compile.frontend.support.examples import Library

_AXES = {(0, False): "[T, B, …]", (1, False): "[B, T, …]", (0, True): "[T·B, …]", (1, True): "[B·T, …]"}
"""(dimension of time, whether time and batch are one) -> how it is written."""


@dataclass(frozen=True)
class Row:
    """What the frontend makes of one class."""

    name: str
    inputs: tuple[str, ...]
    """Inputs that a call takes."""
    equations: tuple[str, ...]
    """One step; empty where there is none."""
    is_exact: bool
    """Whether the equations give the same bits on every machine."""
    why_not: str
    """Why there are no equations: what the adapter says behind the name of the class."""


def rows(adapter: Adapter, library: Library) -> Iterator[Row]:
    """All classes of a library in alphabetical order."""
    for name, cls in sorted(_classes(adapter, library).items()):
        module = _example(cls, library)
        try:
            neuron = adapter.canonical(module)
        except CaptureError as refusal:
            what_was_found = str(refusal).split(";")[0]
            yield Row(name, (), (), False, what_was_found.partition(f"{name} ")[2])
        else:
            yield Row(name, _inputs(adapter, module, library), neuron.equations, neuron.is_exact, "")


def _classes(adapter: Adapter, library: Library) -> dict[str, type[nn.Module]]:
    found = {}
    for module in map(importlib.import_module, library.modules):
        for value in vars(module).values():
            if inspect.isclass(value) and issubclass(value, adapter.neuron_types()):
                found[value.__name__] = value
    return {name: cls for name, cls in found.items() if name not in library.bases and not name.startswith("_")}


def _example(cls: type[nn.Module], library: Library) -> nn.Module:
    """A module of the class, empty where nobody knows the arguments that it demands."""
    parameters = inspect.signature(cls).parameters.values()
    demanded = [p.name for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    if set(demanded) <= library.arguments.keys():
        given = {name: library.arguments[name] for name in demanded}
        return cls(**{**given, **library.options.get(cls.__name__, {})})
    empty = cls.__new__(cls)
    nn.Module.__init__(empty)
    return empty


def _inputs(adapter: Adapter, module: nn.Module, library: Library) -> tuple[str, ...]:
    """What a call takes in each step mode."""
    node: Any = module
    found = []
    for mode in _step_modes(node, library):
        node.step_mode = mode
        found.append(_axes(adapter, module))
    return tuple(found) or (_axes(adapter, module),)


def _step_modes(node: Any, library: Library) -> tuple[str, ...]:
    """Step modes that can be set; none where a class has nothing of the kind."""
    only = library.one_mode.get(type(node).__name__)
    if only is not None or not hasattr(node, "step_mode"):
        return () if only is None else (only,)
    return tuple(node.supported_step_mode()) if hasattr(node, "supported_step_mode") else ("s", "m")


def _axes(adapter: Adapter, module: nn.Module) -> str:
    if not adapter.is_multi_step(module):
        return "[B, …]"
    layout = adapter.layout(module)
    return _AXES[layout.dim, layout.is_flat]
