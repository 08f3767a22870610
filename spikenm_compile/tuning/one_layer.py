"""One layer as a lowered graph, and as a native program whose input lies as the layer before would have written it."""

from __future__ import annotations

import operator
from dataclasses import dataclass

import torch
from torch import nn
from torch.fx import Graph, GraphModule

from spikenm_compile.costs.trials import Kernel
from spikenm_compile.graph import INIT, LEVELS, PER_STEP, REGION, ROLE, SHAPE, Region, Role, result
from spikenm_compile.lowering.instructions import PORTABLE, Instructions
from spikenm_compile.lowering.kernels.values import Operand
from spikenm_compile.lowering.layout import Bits, Bytes, Layout, layout_of
from spikenm_compile.lowering.native_nodes import plan_node
from spikenm_compile.lowering.planner import Planner, Value
from spikenm_compile.lowering.program import Place, Program
from spikenm_compile.ops import IntConv2d, IntConvNeuron

Layer = IntConv2d | IntConvNeuron


def conv_of(layer: Layer) -> IntConv2d:
    """The weights of a layer."""
    return layer.conv if isinstance(layer, IntConvNeuron) else layer


def one_layer(layer: Layer, shape: tuple[int, int, int], num_steps: int) -> GraphModule:
    """A lowered graph of that layer alone.

    Args:
        layer: with or without neurons.
        shape: [C, H, W] of its input.
        num_steps: T.
    """
    graph, root = Graph(), nn.Module()
    root.add_module("layer", layer)
    x = graph.placeholder("x")
    x.meta = {ROLE: Role.INPUT, PER_STEP: True, SHAPE: shape, LEVELS: conv_of(layer).levels}
    graph.placeholder("num_steps").meta = {ROLE: Role.NUM_STEPS}
    with torch.no_grad():
        out_shape = tuple(conv_of(layer)(torch.zeros(1, *shape)).shape[1:])
    firsts = layer.neuron.neuron.states if isinstance(layer, IntConvNeuron) else {}
    states = [graph.placeholder(name) for name in firsts]
    for state, first in zip(states, firsts.values(), strict=True):
        state.meta = {ROLE: Role.STATE, SHAPE: out_shape, INIT: first}
    node = graph.call_module("layer", (x, *states))
    about = {REGION: Region.STEP, SHAPE: out_shape}
    node.meta = dict(about)
    results = [node]
    if isinstance(layer, IntConvNeuron):
        results = [graph.call_function(operator.getitem, (node, i)) for i in range(1 + len(states))]
        for found in results:
            found.meta = dict(about)
        results[0].meta[LEVELS] = layer.neuron.neuron.levels
    graph.output((results[0], tuple(results[1:])))
    lowered = GraphModule(root, graph)
    lowered.meta["num_steps"] = num_steps
    return lowered


def layer_with_kernel(layer: Layer, shape: tuple[int, int, int], num_steps: int, kernel: Kernel) -> GraphModule:
    """A lowered graph of that layer alone, computed by that kernel."""
    conv = conv_of(layer)
    conv.kernel, conv.tile_width, conv.alternative = kernel.family, kernel.tile_width, None
    return one_layer(layer, shape, num_steps)


@dataclass(frozen=True)
class LayerProgram:
    """A program of one layer."""

    program: Program
    source: Bits | Bytes
    """Layout of its input in the arena."""
    source_place: Place
    output: Layout
    output_place: Place
    output_bytes: int


def plan_layer(
    lowered: GraphModule, tile_width: int, prefix: str = "spikenm", instructions: Instructions = PORTABLE
) -> LayerProgram:
    """Plan the layer's own kernels: its event lists, if it reads some, or its bytes, the layer, and its neurons.

    Args:
        lowered: made by `one_layer`.
        tile_width: the target's.
        prefix: how the names of all functions begin.
        instructions: the CPU's.
    """
    num_steps = lowered.meta["num_steps"]
    planner = Planner(lowered, tile_width, num_steps, prefix, instructions)
    planner.region = Region.STEP
    x, node = (next(n for n in lowered.graph.nodes if n.op == op) for op in ("placeholder", "call_module"))
    channels, height, width = x.meta[SHAPE]
    halo, levels = planner.halo(x), x.meta[LEVELS]
    layout = layout_of(levels, height, width, channels, halo)
    place = planner.new(layout, is_static=False).place
    planner.values[x] = Value(Operand(layout, False), place)
    plan_node(planner, node)
    out = planner.values[result(lowered)]
    return LayerProgram(planner.program, layout, place, out.layout, out.place, out.layout.num_bytes(num_steps))
