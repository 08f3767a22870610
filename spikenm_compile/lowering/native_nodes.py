"""What each kind of node becomes in a native program: kernel calls on the planner's buffers, one function per kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import nn
from torch.fx import Node

from spikenm_compile.errors import PassError
from spikenm_compile.graph import LEVELS, Region, module_of
from spikenm_compile.lowering.alternatives import kernels_of, plan_kernels
from spikenm_compile.lowering.exact import check_exact
from spikenm_compile.lowering.kernels.neuron import build_neuron
from spikenm_compile.lowering.kernels.neuron_tile import Output
from spikenm_compile.lowering.kernels.pools import (
    build_max_pool_bits,
    build_max_pool_floats,
    build_sum_pool,
    build_sum_pool_bits,
)
from spikenm_compile.lowering.kernels.quantize import build_quantize
from spikenm_compile.lowering.kernels.values import Operand
from spikenm_compile.lowering.layer_rows import outputs_apart
from spikenm_compile.lowering.layout import Bits, Bytes, Floats, Geometry, Planes, layout_of
from spikenm_compile.lowering.lookup_layers import plan_lookup
from spikenm_compile.lowering.native_joins import KERNELS, plan_function
from spikenm_compile.lowering.native_layers import LayerCode, build_layer, place_constants
from spikenm_compile.lowering.nodes import (
    reads_state,
    size_of,
    source_of,
    without_kernel,
)
from spikenm_compile.lowering.planner import Planner, Value
from spikenm_compile.lowering.program import Place
from spikenm_compile.lowering.shared_slabs import SharedSlabs
from spikenm_compile.neurons import Neuron
from spikenm_compile.ops import IntConv2d, IntConvNeuron, NeuronStep, QuantizeInput, pair
from spikenm_compile.passes.select_kernels import EVENT_ROWS, LOOKUP_TABLES, SHARED_ROWS, STAGGERED_ROWS


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
        plan_function(planner, node)
    elif type(module) in HANDLERS:
        HANDLERS[type(module)](planner, node, module)
    else:
        raise without_kernel(node, module, KERNELS)


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
    conv = module.conv
    neurons = _place_neurons(planner, node, module.neuron, as_planes=conv.kernel == LOOKUP_TABLES)
    # A fused kernel writes whole bytes of spikes: every group or slab of output channels must start at one.
    if all(_fills_bytes(c) for c in kernels_of(conv)):
        source = planner.values[source_of(node)]
        plan_kernels(planner, source, conv, lambda c: _layer(planner, node, c, neurons.out, neurons))
        return
    _emit_neurons(planner, neurons, [_current(planner, node, conv)])


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
    elif conv.kernel == SHARED_ROWS:
        value = planner.as_bits(value, max(conv.padding))
        assert isinstance(value.layout, Bits)
        slabs = SharedSlabs.of(conv, value.layout, width, planner.instructions)
        inputs = [value.place, *planner.kept_lists(slabs)]
        code = LayerCode(conv, slabs, out.layout, neuron, width)
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
    """Spikes and small counts as bits, others as bytes, real numbers as float32."""
    if neuron.levels is None:
        return Floats(*size_of(output))
    return layout_of(neuron.levels, *size_of(output), planner.halo(output))


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
        bits = Bits(*size_of(node), planner.halo(node), source.layout.most)
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
    name, layout = planner.name("pool"), layout_of(levels, *size_of(node), planner.halo(node))
    if isinstance(source.layout, Bits) and isinstance(layout, Bits):
        functions = build_sum_pool_bits(name, source.layout, g, layout)
    else:
        layout = Bytes(*size_of(node), planner.halo(node))
        functions = build_sum_pool(name, source.layout, g, layout)
    planner.values[node] = out = planner.new(layout)
    planner.emit(functions, source.place, out.place)


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
