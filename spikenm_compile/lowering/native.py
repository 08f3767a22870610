"""Lowered graph to a native program: each node becomes kernel calls on planned buffers.

Layers run one after the other, each over all steps of a call: in a feed-forward graph this gives what running step by
step gives, and lets a kernel keep its potentials in registers. State is updated in place. Where spikes go round to an
earlier layer, a call is one step, and they are copied into the state at its end.
"""

from __future__ import annotations

from torch.fx import GraphModule

from spikenm_compile.graph import REGION, Region, result, spike_nodes
from spikenm_compile.lowering.instructions import PORTABLE, Instructions
from spikenm_compile.lowering.kernels.values import build_convert
from spikenm_compile.lowering.layout import Planes
from spikenm_compile.lowering.native_nodes import plan_node
from spikenm_compile.lowering.planner import Planner
from spikenm_compile.lowering.program import Place, Program, Space


def plan(
    lowered: GraphModule,
    tile_width: int,
    max_steps: int,
    prefix: str = "spikenm",
    instructions: Instructions = PORTABLE,
) -> Program:
    """Plan a native program.

    Args:
        lowered: the lowered graph.
        tile_width: output channels that one pass over the events accumulates (a multiple of 8).
        max_steps: most steps that one call advances; 1 where spikes go round.
        prefix: how the names of all functions begin.
        instructions: instructions that the CPU has.

    Raises:
        PassError: a node that no native kernel computes.
    """
    planner = Planner(lowered, tile_width, max_steps, prefix, instructions)
    for region in Region:
        planner.region = region
        for node in lowered.graph.nodes:
            if node.op.startswith("call_") and node.meta[REGION] is region:
                plan_node(planner, node)
        if region is Region.STEP:
            planner.copy_states()
    _write_output(planner)
    _list_spikes(planner)
    return planner.program


def _write_output(planner: Planner) -> None:
    """Copy the result to the user's memory, in the user's order."""
    node = result(planner.lowered)
    planner.region = Region.STEP if node.meta[REGION] is Region.STEP else Region.AFTER
    value = planner.values[node]
    planes = Planes(value.layout.height, value.layout.width, value.layout.channels)
    planner.emit(build_convert(planner.name("output"), value.operand, planes), value.place, Place(Space.OUTPUT))


def _list_spikes(planner: Planner) -> None:
    for layer, node in spike_nodes(planner.lowered).items():
        value = planner.emitted[node]
        size = {key: getattr(value.layout, key) for key in ("height", "width", "channels", "halo")}
        planner.program.spikes.append({"layer": layer, "offset": value.place.offset, **size})
