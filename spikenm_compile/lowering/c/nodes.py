"""What each kind of node becomes in C: calls of kernels on the planner's buffers, one function per kind."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.fx import Node

from spikenm_compile.errors import PassError
from spikenm_compile.graph import LEVELS, Region, Role, module_of, placeholders
from spikenm_compile.lowering.c.algebra import number
from spikenm_compile.lowering.c.layers import plan_convolution, plan_neurons
from spikenm_compile.lowering.c.layouts import BYTES, Kind, Layout, bytes_of
from spikenm_compile.lowering.c.planner import Planner, Value, sizes
from spikenm_compile.lowering.nodes import (
    accumulated,
    joined_by,
    operation_of,
    reads_state,
    size_of,
    source_of,
    without_kernel,
)
from spikenm_compile.ops import IntConv2d, IntConvNeuron, NeuronStep, QuantizeInput, pair

KERNELS = "C"

OPERATIONS: dict[Any, str] = {
    operator.add: "ADD",
    operator.sub: "SUBTRACT",
    operator.mul: "MULTIPLY",
    operator.truediv: "DIVIDE",
    torch.maximum: "MAXIMUM",
}


def plan_node(planner: Planner, node: Node) -> None:
    """Plan one call of the lowered graph.

    Raises:
        PassError: no kernel computes it, or it reads a state that the step updates in place.
    """
    for source in node.all_input_nodes:
        if source in planner.next_state and planner.region is Region.STEP:
            raise reads_state(node, source, KERNELS)
    module = module_of(planner.lowered, node)
    if module is None:
        _plan_function(planner, node)
    elif type(module) in HANDLERS:
        HANDLERS[type(module)](planner, node, module)
    else:
        raise without_kernel(node, module, KERNELS)


def _plan_function(planner: Planner, node: Node) -> None:
    if node.target is operator.getitem:
        return  # the neuron before it has placed all of its results
    if node in planner.next_state:
        _accumulate(planner, node)
    elif all(isinstance(a, Node) for a in node.args) and not _reads_num_steps(planner, node):
        _join(planner, node)
    else:
        _with_scalar(planner, node)


def _reads_num_steps(planner: Planner, node: Node) -> bool:
    return any(a in placeholders(planner.lowered, Role.NUM_STEPS) for a in node.args)


def _quantize(planner: Planner, node: Node, module: QuantizeInput) -> None:
    levels, source = module.levels, planner.as_kind(planner.values[source_of(node)], Kind.PLANES)
    layout = Layout(bytes_of(signed=levels.low < 0), *size_of(node))
    planner.values[node] = out = planner.new(node.name, layout)
    scale, low, high = (number(value) for value in (levels.scale, levels.low, levels.high))
    planner.call(node.name, "quantize", *sizes(layout), scale, low, high, source, out)


def _view(planner: Planner, node: Node, _module: nn.Module) -> None:
    """Flatten and unflatten: the same bytes where one pixel is all there is, else by way of the user's order."""
    source = planner.values[source_of(node)]
    if source.layout.pixels != 1:
        source = planner.as_kind(source, Kind.PLANES)
    planner.values[node] = replace(source, layout=Layout(source.layout.kind, *size_of(node)))


def _conv(planner: Planner, node: Node, conv: IntConv2d) -> None:
    planner.values[node] = out = planner.new(node.name, Layout(Kind.FLOATS, *size_of(node)))
    plan_convolution(planner, node, conv, None, out)


def _conv_neuron(planner: Planner, node: Node, module: IntConvNeuron) -> None:
    table, out = plan_neurons(planner, node, module.neuron)
    plan_convolution(planner, node, module.conv, table, out)


def _neuron(planner: Planner, node: Node, module: NeuronStep) -> None:
    nodes = [a for a in node.args[: len(module.neuron.inputs)] if isinstance(a, Node)]
    currents = tuple(planner.as_floats(planner.values[current]) for current in nodes)
    table, out = plan_neurons(planner, node, module)
    planner.call(module.layer, "fire", f"&{table}", str(out.layout.pixels), currents, "state", out)


def _max_pool(planner: Planner, node: Node, module: nn.MaxPool2d) -> None:
    if module.ceil_mode:
        raise PassError(f"pool '{node.target}' uses ceil_mode, which no C kernel has; pad the input instead")
    source = planner.values[source_of(node)]
    if source.layout.kind is not Kind.BITS:
        source = planner.as_floats(source)
    planner.values[node] = out = planner.new(node.name, Layout(source.layout.kind, *size_of(node)))
    table = _pool_table(planner, node, module, source.layout, pair(module.dilation))
    if source.layout.kind is Kind.BITS:
        planner.call(node.name, "max_pool_spikes", f"&{table}", source, out)
        return
    planner.call(node.name, "max_pool_floats", f"&{table}", source, out)


def _sum_pool(planner: Planner, node: Node, module: nn.AvgPool2d) -> None:
    source, levels = planner.values[source_of(node)], node.meta.get(LEVELS)
    if module.divisor_override != 1 or levels is None or source.layout.kind not in (Kind.BITS, *BYTES):
        raise PassError(
            f"layer '{node.target}' (AvgPool2d) averages real values, too many values, or is not read by layers alone; "
            f"C average pools take spikes and counts and feed layers with weights; use max pooling"
        )
    planner.values[node] = out = planner.new(node.name, Layout(Kind.UNSIGNED, *size_of(node)))
    table = _pool_table(planner, node, module, source.layout, (1, 1))
    planner.call(node.name, "sum_pool", f"&{table}", source.layout.kind, source, out)


def _pool_table(
    planner: Planner, node: Node, module: nn.MaxPool2d | nn.AvgPool2d, source: Layout, dilation: tuple[int, int]
) -> str:
    """A const table of a pool; returns its name."""
    height, width, channels = size_of(node)
    window = (*pair(module.kernel_size), *pair(module.stride), *pair(module.padding), *dilation)
    name = planner.program.names.new(node.name)
    numbers = ", ".join(map(str, (source.height, source.width, channels, height, width, *window)))
    planner.program.tables.append(f"static const pool {name} = {{{numbers}}};\n")
    return name


def _join(planner: Planner, node: Node) -> None:
    a, b = (planner.values[source] for source in joined_by(node, KERNELS))
    levels, operation = node.meta.get(LEVELS), operation_of(node, OPERATIONS, KERNELS)
    if levels is not None and levels.is_binary and node.target is operator.mul:
        _both(planner, node, a, b)
        return
    kind = Kind.FLOATS if levels is None else bytes_of(signed=levels.low < 0)
    planner.values[node] = out = planner.new(node.name, Layout(kind, *size_of(node)))
    operands = (a.layout.kind, a, b.layout.kind, b, kind, out)
    planner.call(node.name, "join", operation, *sizes(out.layout), *operands)


def _both(planner: Planner, node: Node, a: Value, b: Value) -> None:
    left, right = planner.as_bits(a), planner.as_bits(b)
    planner.values[node] = out = planner.new(node.name, Layout(Kind.BITS, *size_of(node)))
    planner.call(node.name, "and_spikes", str(out.layout.num_bytes), left, right, out)


def _complement(planner: Planner, node: Node, x: Node) -> None:
    spikes = planner.as_bits(planner.values[x])
    planner.values[node] = out = planner.new(node.name, Layout(Kind.BITS, *size_of(node)))
    planner.call(node.name, "not_spikes", *sizes(out.layout), spikes, out)


def _with_scalar(planner: Planner, node: Node) -> None:
    """With a number, or with the number of steps so far."""
    first, second = node.args
    if LEVELS in node.meta and isinstance(second, Node):  # 1 - spikes: levels are known of no other
        _complement(planner, node, second)
        return
    steps = placeholders(planner.lowered, Role.NUM_STEPS)
    number_first = not isinstance(first, Node) or first in steps
    x, scalar = (second, first) if number_first else (first, second)
    assert isinstance(x, Node)
    if isinstance(scalar, Node) and planner.region is not Region.AFTER:
        raise PassError(
            f"'{node.name}' uses the number of steps inside of a step; C code knows how many there were after the last "
            f"only, so divide in the readout"
        )
    source = planner.as_floats(planner.values[x])
    text = "(float)num_steps" if isinstance(scalar, Node) else number(float(scalar))  # type: ignore[arg-type]
    planner.values[node] = out = planner.new(node.name, source.layout)
    operation, count = operation_of(node, OPERATIONS, KERNELS), str(source.layout.count)
    planner.call(node.name, "with_scalar", operation, str(int(number_first)), count, source, text, out)


def _accumulate(planner: Planner, node: Node) -> None:
    state = planner.next_state[node]
    x = accumulated(planner.lowered, node, state, KERNELS)
    total, value = planner.values[state], planner.values[x]
    operation = operation_of(node, OPERATIONS, KERNELS)
    planner.call(node.name, "accumulate", operation, *sizes(total.layout), total, value.layout.kind, value)
    planner.values[node] = total


HANDLERS: dict[type[nn.Module], Callable[[Planner, Node, Any], None]] = {
    QuantizeInput: _quantize,
    IntConv2d: _conv,
    IntConvNeuron: _conv_neuron,
    NeuronStep: _neuron,
    nn.MaxPool2d: _max_pool,
    nn.AvgPool2d: _sum_pool,
    nn.Flatten: _view,
    nn.Unflatten: _view,
}
"""Kind of module -> what plans it."""
