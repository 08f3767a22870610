"""Reads a captured graph node by node and says for every value what it is with respect to time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node
from torch.fx.node import Argument, Target
from torch.utils import _pytree as pytree

from spikenm_compile.frontend import lift_functions, lift_modules
from spikenm_compile.frontend.step_builder import StepBuilder
from spikenm_compile.frontend.time_algebra import Time
from spikenm_compile.frontend.values import Sequence, Static, Value

_VALUE_TYPES = Value.__args__


class TimeLifter(Interpreter):
    """One reading of a captured graph, under one hypothesis about its input.

    Args:
        captured: the captured graph.
        example: the example input.
        per_step: read the input as [T, B, ...], another value at each step; else as [B, ...], the same at each step.
    """

    def __init__(self, captured: GraphModule, example: Tensor, *, per_step: bool) -> None:
        super().__init__(captured, garbage_collect_values=False)
        self.captured = captured
        self.extra_traceback = False  # fx would append the graph to messages made for users
        self.nodes_read = 0
        calls = lift_modules.single_step_calls(captured)
        num_steps = example.shape[0] if per_step else max(calls.values(), default=None)
        self.time = Time(StepBuilder(example[0] if per_step else example, per_step=per_step), num_steps)
        self.modules = lift_modules.ModuleLifter(self.time, calls)
        node = self.time.builder.input
        self.input: Value = Sequence(node, example.shape[0]) if per_step else Static(node)

    def read(self) -> Any:
        """What the captured graph returns, as a value in time."""
        return self.run(self.input, enable_io_processing=False)

    def run_node(self, n: Node) -> Any:
        """Value of one node; an in-place call also rebinds the value it changes."""
        value = super().run_node(n)
        self.nodes_read += 1
        if lift_functions.is_in_place(n) and isinstance(n.args[0], Node):
            self.env[n.args[0]] = value
        return value

    def get_attr(self, target: Target, args: tuple[Argument, ...], kwargs: dict[str, Any]) -> Any:
        """Constants and parameters as they are."""
        found = super().get_attr(target, args, kwargs)
        return found.detach() if isinstance(found, Tensor) else found

    def call_module(self, target: Target, args: tuple[Argument, ...], kwargs: dict[str, Any]) -> Any:
        """A layer or a neuron."""
        module = self.captured.get_submodule(str(target))
        return self.modules.call(str(target), module, (*args, *kwargs.values()))

    def call_method(self, target: Target, args: tuple[Argument, ...], kwargs: dict[str, Any]) -> Any:
        """A tensor method."""
        if not _has_values(args, kwargs):
            return super().call_method(target, args, kwargs)
        return lift_functions.call(self.time, str(target), args, kwargs)

    def call_function(self, target: Target, args: tuple[Argument, ...], kwargs: dict[str, Any]) -> Any:
        """A function; one that meets no traced value is simply computed."""
        if self.modules.is_reset(target):
            return self.modules.note_reset(args[0])
        if not _has_values(args, kwargs):
            with torch.no_grad():
                return super().call_function(target, args, kwargs)
        return lift_functions.call(self.time, lift_functions.name_of(target), args, kwargs)


def _has_values(args: Any, kwargs: Any) -> bool:
    return any(isinstance(leaf, _VALUE_TYPES) for leaf in pytree.tree_leaves((args, kwargs)))
