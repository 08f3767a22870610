"""What each function of a lowered graph becomes in a native program: joins of values, and readouts over time."""

from __future__ import annotations

import operator

from torch.fx import Node

from spikenm_compile.graph import LEVELS, Role, placeholders
from spikenm_compile.lowering.kernels.bit_joins import build_and, build_not, build_sum
from spikenm_compile.lowering.kernels.joins import build_accumulate, build_join, build_over_steps, build_with_scalar
from spikenm_compile.lowering.kernels.values import OPERATIONS, Operation
from spikenm_compile.lowering.layout import Bits, Bytes, Floats
from spikenm_compile.lowering.nodes import accumulated, joined_by, operation_of, size_of, source_of
from spikenm_compile.lowering.planner import Planner, Value
from spikenm_compile.lowering.program import Steps

KERNELS = "native"


def plan_function(planner: Planner, node: Node) -> None:
    """Plan one call of a function of the lowered graph."""
    if node.target is operator.getitem:
        return  # the neuron before it has placed both of its results
    if node in planner.next_state:
        _accumulate(planner, node)
    elif any(a in placeholders(planner.lowered, Role.NUM_STEPS) for a in node.args):
        _over_steps(planner, node)
    elif all(isinstance(a, Node) for a in node.args):
        _join(planner, node)
    else:
        _with_scalar(planner, node)


def _join(planner: Planner, node: Node) -> None:
    operation: Operation = operation_of(node, OPERATIONS, KERNELS)
    sources = joined_by(node, KERNELS)
    a, b = (planner.values[source] for source in sources)
    levels, size = node.meta.get(LEVELS), size_of(node)
    if levels is not None and levels.is_binary and node.target is operator.mul:
        _both(planner, node, a, b)
        return
    if operation == "add" and all(_is_unary(value) for value in (node, *sources)):
        left, right = (planner.as_bits(planner.values[source], 0, source.meta[LEVELS].high) for source in sources)
        _sum(planner, node, left, right)
        return
    layout = Floats(*size) if levels is None else Bytes(*size, planner.halo(node), levels.low < 0)
    planner.values[node] = out = planner.new(layout)
    functions = build_join(planner.name("join"), operation, a.operand, b.operand, layout)
    planner.emit(functions, a.place, b.place, out.place)


def _is_unary(node: Node) -> bool:
    levels = node.meta.get(LEVELS)
    return levels is not None and levels.is_unary


def _sum(planner: Planner, node: Node, a: Value, b: Value) -> None:
    layout = Bits(*size_of(node), planner.halo(node), node.meta[LEVELS].high)
    planner.values[node] = out = planner.new(layout)
    planner.emit(build_sum(planner.name("sum"), a.operand, b.operand, layout), a.place, b.place, out.place)


def _both(planner: Planner, node: Node, a: Value, b: Value) -> None:
    layout = Bits(*size_of(node), planner.halo(node))
    planner.values[node] = out = planner.new(layout)
    left, right = planner.as_bits(a, 0), planner.as_bits(b, 0)
    planner.emit(
        build_and(planner.name("and"), left.operand, right.operand, layout), left.place, right.place, out.place
    )


def _complement(planner: Planner, node: Node, x: Node) -> None:
    layout = Bits(*size_of(node), planner.halo(node))
    planner.values[node] = out = planner.new(layout)
    spikes = planner.as_bits(planner.values[x], 0)
    planner.emit(build_not(planner.name("not"), spikes.operand, layout), spikes.place, out.place)


def _with_scalar(planner: Planner, node: Node) -> None:
    first, second = node.args
    if LEVELS in node.meta and isinstance(second, Node):  # 1 - spikes: levels are known of no other
        _complement(planner, node, second)
        return
    is_left = isinstance(first, Node)
    x, number = (first, second) if is_left else (second, first)
    assert isinstance(x, Node)
    assert isinstance(number, int | float)
    source = planner.as_floats(planner.values[x])
    planner.values[node] = out = planner.new(source.layout)
    name, operation = planner.name("scalar"), operation_of(node, OPERATIONS, KERNELS)
    functions = build_with_scalar(name, operation, source.operand, float(number), out.layout, is_left=is_left)
    planner.emit(functions, source.place, out.place)


def _accumulate(planner: Planner, node: Node) -> None:
    state = planner.next_state[node]
    x = accumulated(planner.lowered, node, state, KERNELS)
    total, value = planner.values[state], planner.values[x]
    assert isinstance(total.layout, Floats)
    functions = build_accumulate(planner.name("readout"), OPERATIONS[node.target], value.operand, total.layout)
    planner.emit(functions, total.place, value.place)
    planner.values[node] = total


def _over_steps(planner: Planner, node: Node) -> None:
    source = planner.as_floats(planner.values[source_of(node)])
    assert isinstance(source.layout, Floats)
    planner.values[node] = out = planner.new(source.layout)
    functions = build_over_steps(planner.name("mean"), OPERATIONS[node.target], source.layout)
    planner.emit(functions, source.place, out.place, steps=Steps.ALL)
