"""Lowered graph to a C program: each node becomes calls of kernels, one step at a time.

State is updated in place; what goes round to an earlier layer is copied into the state at the end of a step.
"""

from __future__ import annotations

from torch.fx import GraphModule

from spikenm_compile.graph import REGION, Region, result, the_input
from spikenm_compile.lowering.c.layouts import Kind
from spikenm_compile.lowering.c.nodes import plan_node
from spikenm_compile.lowering.c.planner import Planner, sizes
from spikenm_compile.lowering.c.program import Buffer, Program
from spikenm_compile.lowering.c.weights import Rows


def plan_c(lowered: GraphModule, prefix: str, *, rows: Rows = "auto", keep_spikes: bool = False) -> Program:
    """Plan a C program.

    Args:
        lowered: the lowered graph.
        prefix: beginning of the names that other C files see.
        rows: how weights are stored.
        keep_spikes: keep the spikes of every layer readable after a step, and not only those of the last.

    Raises:
        PassError: a node that no C kernel computes.
    """
    planner = Planner(lowered, prefix, rows)
    for region in Region:
        planner.region = region
        for node in lowered.graph.nodes:
            if node.op.startswith("call_") and node.meta[REGION] is region:
                plan_node(planner, node)
        if region is Region.STEP:
            planner.copy_states()
    _write_output(planner)
    source = planner.values[the_input(lowered)].layout
    planner.program.frame = Buffer(planner.program.names.new("at_frame"), source.num_bytes, str(source))
    spikes = planner.program.spikes
    planner.program.kept += [spike.buffer for spike in (spikes if keep_spikes else spikes[-1:])]
    return planner.program


def _write_output(planner: Planner) -> None:
    """Copy the result to the user's memory, in the user's order."""
    node = result(planner.lowered)
    planner.region = Region.STEP if node.meta[REGION] is Region.STEP else Region.AFTER
    value = planner.values[node]
    planner.program.output_values = value.layout.count if planner.region is Region.STEP else 0
    arguments = (*sizes(value.layout), value.layout.kind, value, Kind.PLANES, "output")
    planner.call("output", "convert", *arguments)
