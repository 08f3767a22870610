"""What each kind of node becomes in a native program: kernel calls on the planner's buffers, one function per kind."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import nn
from torch.fx import Node

from spikenm_compile.errors import PassError
from spikenm_compile.graph import LEVELS, Region, Role, module_of, placeholders
from spikenm_compile.lowering.alternatives import kernels_of, plan_kernels
from spikenm_compile.lowering.exact import check_exact
from spikenm_compile.lowering.kernels.bit_joins import build_and, build_not
from spikenm_compile.lowering.kernels.joins import build_accumulate, build_join, build_over_steps, build_with_scalar
from spikenm_compile.lowering.kernels.neuron import build_neuron
from spikenm_compile.lowering.kernels.neuron_tile import Output
from spikenm_compile.lowering.kernels.pools import build_max_pool_bits, build_max_pool_floats, build_sum_pool
from spikenm_compile.lowering.kernels.quantize import build_quantize
from spikenm_compile.lowering.kernels.values import OPERATIONS, Operand, Operation
from spikenm_compile.lowering.layer_rows import outputs_apart
from spikenm_compile.lowering.layout import Bits, Bytes, Floats, Geometry, Planes
from spikenm_compile.lowering.lookup_layers import plan_lookup
from spikenm_compile.lowering.native_layers import LayerCode, build_layer, place_constants
from spikenm_compile.lowering.nodes import (
    accumulated,
    joined_by,
    operation_of,
    reads_state,
    size_of,
    source_of,
    without_kernel,
)
from spikenm_compile.lowering.planner import Planner, Value
from spikenm_compile.lowering.program import Place, Steps
from spikenm_compile.neurons import Neuron
from spikenm_compile.ops import IntConv2d, IntConvNeuron, NeuronStep, QuantizeInput, pair
from spikenm_compile.passes.select_kernels import EVENT_ROWS, LOOKUP_TABLES, STAGGERED_ROWS

KERNELS = "native"


def plan_node(planner: Planner, node: Node) -> None:
    """Plan one call of the lowered graph.

    Raises:
        PassError: no native kernel computes it, or it reads a state that the step updates in place.
    """
    for source in node.all_input_nodes:
        if source in planner.next_state and planner.region is Region.STEP:
            raise reads_state(node, source, KERNELS)
        if source in planner.values:
            planner.settle(source)
    module = module_of(planner.lowered, node)
    if module is None:
        _plan_function(planner, node)
    elif type(module) in HANDLERS:
        HANDLERS[type(module)](planner, node, module)
    else:
        raise without_kernel(node, module, KERNELS)


def _plan_function(planner: Planner, node: Node) -> None:
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


def _quantize(planner: Planner, node: Node, module: QuantizeInput) -> None:
    source = planner.values[source_of(node)]
    layout = Bytes(*size_of(node), planner.halo(node), signed=module.levels.low < 0)
    assert isinstance(source.layout, Planes)
    planner.values[node] = out = planner.new(layout)
    functions = build_quantize(planner.name("quantize"), source.layout, module.levels, layout)
    planner.emit(functions, source.place, out.place)


def _view(planner: Planner, node: Node, _module: nn.Module) -> None:
    """Flatten and unflatten: the same bytes where one pixel is all there is, else by way of the user's order."""
    source = planner.values[source_of(node)]
    layout = source.layout
    if not isinstance(layout, Planes) and (layout.height, layout.width) != (1, 1):
        source = planner.as_layout(source, Planes(layout.height, layout.width, layout.channels))
    height, width, channels = size_of(node)
    viewed = replace(source.layout, height=height, width=width, channels=channels)
    planner.values[node] = Value(Operand(viewed, source.operand.is_static), source.place)


def _conv(planner: Planner, node: Node, conv: IntConv2d) -> None:
    planner.values[node] = _current(planner, node, conv)


def _current(planner: Planner, node: Node, conv: IntConv2d) -> Value:
    """The layer without neurons."""
    layout = Planes if conv.kernel == LOOKUP_TABLES else Floats
    out = planner.new(layout(*size_of(node)))
    plan_kernels(planner, planner.values[source_of(node)], conv, lambda c: _layer(planner, node, c, out, None))
    return out


def _conv_neuron(planner: Planner, node: Node, module: IntConvNeuron) -> None:
    neurons = _place_neurons(planner, node, module.neuron, as_planes=module.conv.kernel == LOOKUP_TABLES)
    # A fused kernel writes whole bytes of spikes: every group or slab of output channels must start at one.
    if all(_fills_bytes(conv) for conv in kernels_of(module.conv)):
        source = planner.values[source_of(node)]
        plan_kernels(planner, source, module.conv, lambda c: _layer(planner, node, c, neurons.out, neurons))
        return
    _emit_neurons(planner, neurons, [_current(planner, node, module.conv)])


def _fills_bytes(conv: IntConv2d) -> bool:
    apart = outputs_apart(conv)
    return apart == conv.weight.shape[0] or apart % 8 == 0


def _layer(planner: Planner, node: Node, conv: IntConv2d, out: Value, neurons: PlacedNeurons | None) -> None:
    value = planner.values[source_of(node)]
    neuron, places = (neurons.neuron, neurons.places) if neurons else (None, ())
    if conv.kernel == LOOKUP_TABLES:
        plan_lookup(planner, node, conv, out, neuron, places)
        return
    width = conv.tile_width or planner.width_for(neuron)
    if conv.kernel in (EVENT_ROWS, STAGGERED_ROWS):
        lists, *inputs = planner.event_list(value, conv, width)
        code = LayerCode(conv, lists, out.layout, neuron, width)
    else:
        value = planner.as_bytes(value, max(conv.padding), signed=conv.levels.low < 0)
        assert isinstance(value.layout, Bytes)
        inputs = [value.place]
        code = LayerCode(conv, value.layout, out.layout, neuron, width)
    layer = build_layer(planner.program, code, planner.name(conv.layer.replace(".", "_")))
    planner.emit(layer.functions, *inputs, *layer.params, *places, out.place)


@dataclass(frozen=True)
class PlacedNeurons:
    """A layer of neurons and its buffers."""

    neuron: Neuron
    places: tuple[Place, ...]
    """Constants per channel, states."""
    out: Value


def _place_neurons(planner: Planner, node: Node, module: NeuronStep, *, as_planes: bool = False) -> PlacedNeurons:
    """Buffers of a layer of neurons, states in the user's order if asked; its getitem nodes get their values here."""
    neuron = module.neuron
    check_exact(module)
    results = {user.args[1]: user for user in node.users}
    states = []
    for index, state in enumerate(node.args[len(neuron.inputs) :], start=1):
        assert isinstance(state, Node)
        after = results.get(index)
        if len(state.users) != 1 or after is None or planner.next_state.get(after) is not state:
            raise reads_state(node, state, KERNELS)
        if as_planes:
            planner.as_planes(state)
        planner.values[after] = planner.values[state]
        states.append(planner.values[state].place)
    output = results.get(0, node)
    planner.values[output] = planner.emitted[output] = planner.new(_output_layout(planner, neuron, output))
    constants = place_constants(planner.program, module, size_of(node)[2])
    return PlacedNeurons(neuron, (*constants, *states), planner.values[output])


def _output_layout(planner: Planner, neuron: Neuron, output: Node) -> Output:
    """Spikes as bits, counts as bytes, real numbers as float32."""
    if neuron.levels is None:
        return Floats(*size_of(output))
    halo = planner.halo(output)
    return Bits(*size_of(output), halo) if neuron.is_binary else Bytes(*size_of(output), halo, neuron.levels.low < 0)


def _neuron(planner: Planner, node: Node, module: NeuronStep) -> None:
    nodes = [a for a in node.args[: len(module.neuron.inputs)] if isinstance(a, Node)]
    currents = [planner.as_floats(planner.values[current]) for current in nodes]
    _emit_neurons(planner, _place_neurons(planner, node, module), currents)


def _emit_neurons(planner: Planner, neurons: PlacedNeurons, currents: list[Value]) -> None:
    layout, width = neurons.out.layout, planner.width_for(neurons.neuron)
    assert isinstance(layout, Bits | Bytes | Floats)
    functions = build_neuron(planner.name("neuron"), neurons.neuron, [c.operand for c in currents], layout, width)
    planner.emit(functions, *(c.place for c in currents), *neurons.places, neurons.out.place)


def _max_pool(planner: Planner, node: Node, pool: nn.MaxPool2d) -> None:
    if pool.ceil_mode:
        raise PassError(f"pool '{node.target}' uses ceil_mode, which no native kernel has; pad the input instead")
    g = Geometry(pair(pool.kernel_size), pair(pool.stride), pair(pool.padding), pair(pool.dilation))
    source = planner.values[source_of(node)]
    if isinstance(source.layout, Bits):
        bits = Bits(*size_of(node), planner.halo(node))
        functions = build_max_pool_bits(planner.name("pool"), source.layout, g, bits)
        out = planner.new(bits)
    else:
        source, floats = planner.as_floats(source), Floats(*size_of(node))
        assert isinstance(source.layout, Floats)
        functions = build_max_pool_floats(planner.name("pool"), source.layout, g, floats)
        out = planner.new(floats)
    planner.values[node] = out
    planner.emit(functions, source.place, out.place)


def _sum_pool(planner: Planner, node: Node, pool: nn.AvgPool2d) -> None:
    source, levels = planner.values[source_of(node)], node.meta.get(LEVELS)
    if pool.divisor_override != 1 or levels is None or not isinstance(source.layout, Bits | Bytes):
        raise PassError(
            f"layer '{node.target}' (AvgPool2d) averages real values, too many values, or is not read by layers alone; "
            f"native average pools take spikes and counts and feed layers with weights; use max pooling"
        )
    g = Geometry(pair(pool.kernel_size), pair(pool.stride), pair(pool.padding))
    layout = Bytes(*size_of(node), planner.halo(node))
    planner.values[node] = out = planner.new(layout)
    planner.emit(build_sum_pool(planner.name("pool"), source.layout, g, layout), source.place, out.place)


def _join(planner: Planner, node: Node) -> None:
    operation: Operation = operation_of(node, OPERATIONS, KERNELS)
    a, b = (planner.values[source] for source in joined_by(node, KERNELS))
    levels, size = node.meta.get(LEVELS), size_of(node)
    if levels is not None and levels.is_binary and node.target is operator.mul:
        _both(planner, node, a, b)
        return
    layout = Floats(*size) if levels is None else Bytes(*size, planner.halo(node), levels.low < 0)
    planner.values[node] = out = planner.new(layout)
    functions = build_join(planner.name("join"), operation, a.operand, b.operand, layout)
    planner.emit(functions, a.place, b.place, out.place)


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
