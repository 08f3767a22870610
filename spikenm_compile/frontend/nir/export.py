"""A step graph as a NIR graph.

layers of torch       Affine, Linear, Conv2d, AvgPool2d, SumPool2d, Flatten
canonical neurons     I, IF, LI, LIF, CubaLI, CubaLIF, Threshold, with a note of the exact neuron
a sum of branches     edges into the same node
times a number        Scale
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.fx import GraphModule, Node

from spikenm_compile.errors import InputError
from spikenm_compile.frontend.nir.nodes import nir_unit
from spikenm_compile.frontend.nir.notes import graph_note, neuron_note
from spikenm_compile.frontend.nir.package import nir_package
from spikenm_compile.frontend.nir.torch_layers import nir_layer
from spikenm_compile.graph import LAYER, REGION, ROLE, SHAPE, Region, Role, module_of, result, the_input
from spikenm_compile.ops import NeuronStep

INPUT, OUTPUT = "input", "output"


def export_graph(step_graph: GraphModule, *, dt: float, allow_soft_reset: bool, drop_readout: bool) -> Any:
    """The `nir.NIRGraph` of a float step graph whose batch norm is folded.

    Args:
        step_graph: see `spikenm_compile.graph`.
        dt: time step in seconds.
        allow_soft_reset: write soft resets as hard ones to 0, and note it.
        drop_readout: leave out a reduction of the output over time.

    Raises:
        InputError: what NIR cannot say.
        ToolError: the package nir is not installed.
    """
    writer = _Writer(step_graph, dt, allow_soft_reset)
    end = _per_step(step_graph, drop_readout)
    for node in _needed(step_graph, end):
        writer.add(node)
    return writer.finish(end)


class _Writer:
    """NIR nodes and edges, and for each node of the step graph the NIR nodes whose outputs add up to it."""

    def __init__(self, step_graph: GraphModule, dt: float, allow_soft_reset: bool) -> None:
        self.step_graph = step_graph
        self.dt = dt
        self.allow_soft_reset = allow_soft_reset
        self.nir = nir_package()
        self.nodes: dict[str, Any] = {}
        self.edges: list[tuple[str, str]] = []
        self.parts: dict[Node, tuple[str, ...]] = {}

    def add(self, node: Node) -> None:
        """Write one node; those that it reads are written."""
        if node.op == "placeholder":
            self.nodes[INPUT] = self.nir.Input(input_type=np.array(node.meta[SHAPE]))
            self.parts[node] = (INPUT,)
        elif node.op == "call_module":
            self._module(node, module_of(self.step_graph, node))
        else:
            self._function(node)

    def finish(self, end: Node) -> Any:
        """The graph."""
        self._node(OUTPUT, self.nir.Output(output_type=np.array(end.meta[SHAPE])), end)
        nodes = {INPUT: self.nodes.pop(INPUT), **self.nodes}
        return self.nir.NIRGraph(nodes, self.edges, metadata=graph_note(self.dt), type_check=False)

    def _module(self, node: Node, module: nn.Module | None) -> None:
        source = node.args[0]
        assert isinstance(source, Node)
        shape: tuple[int, ...] = source.meta[SHAPE]
        name = self._name(node)
        if isinstance(module, NeuronStep):
            written = self._neuron(str(node.meta.get(LAYER, name)), module, shape)
        else:
            written = nir_layer(self.nir, str(node.meta.get(LAYER, name)), module, shape, node.meta[SHAPE])
        self.parts[node] = (self._node(name, written, source),)

    def _neuron(self, owner: str, step: NeuronStep, shape: tuple[int, ...]) -> Any:
        unit = nir_unit(owner, step.neuron, self.dt)
        if unit.is_soft and not self.allow_soft_reset:
            raise InputError(
                f"neuron '{owner}' ({step.neuron}) resets softly, which NIR does not say; other tools would reset it "
                "to a value; train with a hard reset, or give allow_soft_reset=True, which notes it for from_nir"
            )
        parameters = {name: _full(value, shape) for name, value in unit.parameters.items()}
        written = getattr(self.nir, unit.kind)(**parameters)
        written.metadata = neuron_note(step.neuron, self.dt)
        return written

    def _function(self, node: Node) -> None:
        sources = [a for a in node.args if isinstance(a, Node)]
        if node.target is operator.getitem and node.args[1] == 0:
            self.parts[node] = self.parts[sources[0]]
        elif node.target is operator.add and len(sources) == 2:
            self.parts[node] = (*self.parts[sources[0]], *self.parts[sources[1]])
        elif node.target in (operator.mul, operator.truediv) and len(sources) == 1:
            scale = np.full(sources[0].meta[SHAPE], _factor(node), dtype=np.float32)
            self.parts[node] = (self._node(self._name(node), self.nir.Scale(scale=scale), sources[0]),)
        else:
            raise InputError(
                f"operation '{node.name}' ({getattr(node.target, '__name__', node.target)}) has no form in NIR, which "
                "adds branches and scales values; leave it out of the network"
            )

    def _node(self, name: str, written: Any, source: Node) -> str:
        """Register a node that reads the parts of `source`."""
        if source not in self.parts:
            raise InputError(
                f"'{name}' reads the state '{source.name}', which holds what its neurons emitted at the step before; "
                "feed-forward networks are written as NIR; leave the feedback out"
            )
        parts = self.parts[source]
        if len(set(parts)) < len(parts):
            raise InputError(
                f"'{name}' reads the same value twice in a sum, and an edge of NIR adds a value once; multiply it by 2"
            )
        self.nodes[name] = written
        self.edges += [(part, name) for part in parts]
        return name

    def _name(self, node: Node) -> str:
        """The user's name of a layer without dots, which other tools make attributes of."""
        name = str(node.meta.get(LAYER, node.name)).replace(".", "_")
        while name in (*self.nodes, INPUT, OUTPUT):
            name = f"{name}_"
        return name


def _per_step(step_graph: GraphModule, drop_readout: bool) -> Node:
    """The node whose value at each step is the output."""
    end = result(step_graph)
    if end.meta[REGION] is not Region.AFTER:
        return end
    if not drop_readout:
        raise InputError(
            "the model reduces its output over time, and a NIR graph emits every step; return the whole sequence "
            "[T, B, ...], or give drop_readout=True, which leaves the reduction to whoever runs the graph"
        )
    while end.meta[REGION] is Region.AFTER:
        if end.op != "call_function" or not isinstance(end.args[0], Node):
            raise InputError(
                f"'{end.meta.get(LAYER, end.name)}' computes on the output read out over time, which NIR does not "
                "have; return what the last layer gives at each step"
            )
        end = end.args[0]
    if _is_reduction(end):
        end = next(a for a in end.all_input_nodes if a.op != "placeholder")
    return end


def _is_reduction(node: Node) -> bool:
    accumulates = node.target in (operator.add, torch.maximum)
    return accumulates and any(a.op == "placeholder" and a.meta[ROLE] is Role.STATE for a in node.all_input_nodes)


def _needed(step_graph: GraphModule, end: Node) -> Iterable[Node]:
    """What the output is computed from, states apart, in order."""
    found, stack = {end}, [end]
    while stack:
        for source in stack.pop().all_input_nodes:
            is_state = source.op == "placeholder" and source.meta[ROLE] is not Role.INPUT
            if source not in found and not is_state:
                found.add(source)
                stack.append(source)
    if the_input(step_graph) not in found:
        raise InputError(
            "the output does not depend on the input; a NIR graph leads from one to the other; connect them"
        )
    return [node for node in step_graph.graph.nodes if node in found]


def _factor(node: Node) -> float:
    """The number that a value is multiplied by."""
    number = next(float(a) for a in node.args if isinstance(a, int | float))
    if node.target is operator.mul:
        return number
    if math.frexp(number)[0] not in (0.5, -0.5):
        raise InputError(
            f"'{node.name}' divides by {number:.9g}, and NIR multiplies, which rounds otherwise unless it is a power "
            "of two; multiply by the factor instead"
        )
    return 1.0 / number


def _full(values: Any, shape: tuple[int, ...]) -> Any:
    """One number or one per channel, for every neuron."""
    array = np.asarray(values, dtype=np.float64)
    per_channel = array.reshape(array.shape + (1,) * (len(shape) - 1)) if array.ndim else array
    return np.ascontiguousarray(np.broadcast_to(per_channel, shape))
