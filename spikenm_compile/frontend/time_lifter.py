"""Reads a captured graph node by node and says for every value what it is with respect to time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node
from torch.fx.node import Argument, Target
from torch.utils import _pytree as pytree

from spikenm_compile.errors import CaptureError
from spikenm_compile.frontend import lift_functions
from spikenm_compile.frontend.free_sizes import FreeSizes
from spikenm_compile.frontend.lift_modules import ModuleLifter
from spikenm_compile.frontend.lift_neurons import single_step_calls
from spikenm_compile.frontend.location import LOCATION
from spikenm_compile.frontend.readings import Reading
from spikenm_compile.frontend.recording import StateCall
from spikenm_compile.frontend.step_builder import StepBuilder
from spikenm_compile.frontend.time_algebra import Time
from spikenm_compile.frontend.values import Collected, Value

_VALUE_TYPES = (*Value.__args__, Collected)


class TimeLifter(Interpreter):
    """One reading of a captured graph, under one hypothesis about its input.

    Args:
        captured: the captured graph.
        reading: the hypothesis.
    """

    def __init__(self, captured: GraphModule, reading: Reading) -> None:
        super().__init__(captured, garbage_collect_values=False)
        self.captured = captured
        self.extra_traceback = False  # fx would append the graph to messages made for users
        self.nodes_read = 0
        calls = single_step_calls(captured)
        num_steps = reading.length if reading.per_step else max(calls.values(), default=None)
        self.time = Time(StepBuilder(reading.step, per_step=reading.per_step), num_steps)
        self.modules = ModuleLifter(self.time, calls)
        self.free_sizes = FreeSizes(self.time)
        self.input = reading.value(self.time.builder.input)

    def read(self) -> Any:
        """What the captured graph returns, as a value in time."""
        return self.run(self.input, enable_io_processing=False)

    def run_node(self, n: Node) -> Any:
        """Value of one node; an in-place call also rebinds the value it changes."""
        name = _name_of(n)
        operands = tuple(self.env[a] if isinstance(a, Node) else a for a in n.args)
        try:
            self.free_sizes.check(n, name, operands)
            value = super().run_node(n)
        except CaptureError as error:
            if LOCATION not in n.meta:
                raise
            raise CaptureError(f"in {n.meta[LOCATION]}: {error}") from error
        self.nodes_read += 1
        self.free_sizes.note(n, name, value, operands[0] if operands else None)
        if self._changes_its_input(n) and isinstance(n.args[0], Node):
            self.env[n.args[0]] = value
        return value

    def _changes_its_input(self, n: Node) -> bool:
        if n.op == "call_module" and n.args:
            module = self.captured.get_submodule(str(n.target))
            return bool(getattr(module, "inplace", False))
        return lift_functions.is_in_place(n)

    def get_attr(self, target: Target, args: tuple[Argument, ...], kwargs: dict[str, Any]) -> Any:
        """Constants and parameters as they are."""
        found = super().get_attr(target, args, kwargs)
        return found.detach() if isinstance(found, Tensor) else found

    def call_module(self, target: Target, args: tuple[Argument, ...], kwargs: dict[str, Any]) -> Any:
        """A layer, a neuron, or a call that sets the state of a neuron."""
        module = self.captured.get_submodule(str(target))
        if isinstance(module, StateCall):
            return self.modules.neurons.set_state(module)
        return self.modules.call(str(target), module, args, kwargs)

    def call_method(self, target: Target, args: tuple[Argument, ...], kwargs: dict[str, Any]) -> Any:
        """A tensor method."""
        if not _has_values(args, kwargs):
            return super().call_method(target, args, kwargs)
        return lift_functions.call(self.time, str(target), args, kwargs)

    def call_function(self, target: Target, args: tuple[Argument, ...], kwargs: dict[str, Any]) -> Any:
        """A function; one that meets no traced value is simply computed, and so is a named tuple of states."""
        is_tuple = isinstance(target, type) and issubclass(target, tuple)
        if is_tuple or not _has_values(args, kwargs):
            with torch.no_grad():
                return super().call_function(target, args, kwargs)
        return lift_functions.call(self.time, lift_functions.name_of(target), args, kwargs)


def _name_of(node: Node) -> str:
    """What a function or a method computes; of an attribute, which one."""
    if node.target is getattr:
        return str(node.args[1])
    if node.op == "call_function":
        return lift_functions.base_name(lift_functions.name_of(node.target))
    return lift_functions.base_name(str(node.target)) if node.op == "call_method" else ""


def _has_values(args: Any, kwargs: Any) -> bool:
    return any(isinstance(leaf, _VALUE_TYPES) for leaf in pytree.tree_leaves((args, kwargs)))
