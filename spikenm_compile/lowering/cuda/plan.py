"""Lowered graph to a CUDA program: each node becomes kernel launches on planned buffers, each over all T steps.

Layers run one after the other, so that the potentials of a layer stay in registers over its T steps.
"""

from __future__ import annotations

from torch.fx import GraphModule

from spikenm_compile.graph import REGION, Region, result, spike_nodes
from spikenm_compile.lowering.cuda.generated import Gpu
from spikenm_compile.lowering.cuda.nodes import plan_node
from spikenm_compile.lowering.cuda.planner import Planner, Value
from spikenm_compile.lowering.cuda.program import Place, Program, Space
from spikenm_compile.lowering.cuda.tensors import Planes


def plan(lowered: GraphModule, num_steps: int, gpu: Gpu, batch: int, *, keeps_states: bool = False) -> Program:
    """Plan a CUDA program.

    Args:
        lowered: the lowered graph.
        num_steps: T.
        gpu: facts that hold on every GPU that it shall run on.
        batch: samples that tiles are chosen for; the program takes any number.
        keeps_states: whether the last states of neurons can be read.

    Raises:
        PassError: a node that no CUDA kernel computes, or spikes that go round.
    """
    planner = Planner(lowered, num_steps, gpu, batch, keeps_states=keeps_states)
    for region in Region:
        for node in lowered.graph.nodes:
            if node.op.startswith("call_") and node.meta[REGION] is region:
                plan_node(planner, node)
    _write_output(planner)
    _list_spikes(planner)
    _drop_unused_states(planner.program)
    return planner.program


def _write_output(planner: Planner) -> None:
    """Copy the result to the user's memory, in the user's order."""
    node = result(planner.lowered)
    steps = planner.steps_of(node)
    if steps == 1:
        planner.settle(node)
    value = planner.values[node]
    t = value.tensor
    planner.write(value, Value(Planes(t.height, t.width, t.channels, steps), Place(Space.OUTPUT)))


def _list_spikes(planner: Planner) -> None:
    for layer, node in spike_nodes(planner.lowered).items():
        value = planner.emitted[node]
        size = {key: getattr(value.tensor, key) for key in ("height", "width", "channels", "halo")}
        planner.program.spikes.append({"layer": layer, "offset": value.place.offset, **size})


def _drop_unused_states(program: Program) -> None:
    """States that live in registers only have no place in memory to be filled or read."""
    used = {place.offset for launch in program.launches for place in launch.arguments if place.space is Space.ARENA}
    program.states = [state for state in program.states if state["offset"] in used]
