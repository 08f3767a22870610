"""Neurons that are read for their potential only emit it: nobody asks for their spikes, and states change in place.

Given:   %2 = getitem(%lif, 1)    %sum = add(%sum_2, %2)        lif emits s
Result:  %2 = getitem(%lif, 1)    %0 = getitem(%lif, 0)    %sum = add(%sum_2, %0)        lif emits mem
"""

from __future__ import annotations

import dataclasses
import operator

from torch.fx import GraphModule, Node

from spikenm_compile.graph import (
    REGION,
    SHAPE,
    Region,
    clean_up,
    module_of,
    next_states,
    output_node,
    result,
    verify_graph,
)
from spikenm_compile.ops import NeuronStep


def emit_read_states(graph_module: GraphModule) -> None:
    """Change, in place, each layer of neurons whose output nobody reads and one of whose states is read in a step."""
    for node in list(graph_module.graph.nodes):
        step = module_of(graph_module, node)
        if not isinstance(step, NeuronStep) or any(part.args[1] == 0 for part in node.users):
            continue
        read = [part for part in node.users if _is_read_in_step(graph_module, part)]
        if len(read) == 1:
            _emit(graph_module, node, step, read[0])
    clean_up(graph_module)
    verify_graph(graph_module)


def _is_read_in_step(graph_module: GraphModule, state: Node) -> bool:
    """Whether anything but the next step reads a state at each step."""
    return state is result(graph_module) or any(user.meta.get(REGION) is Region.STEP for user in state.users)


def _emit(graph_module: GraphModule, node: Node, step: NeuronStep, state: Node) -> None:
    index = state.args[1]
    assert isinstance(index, int)
    name = list(step.neuron.states)[index - 1]
    step.neuron = dataclasses.replace(step.neuron, output=name, levels=None)
    with graph_module.graph.inserting_after(node):
        emitted = graph_module.graph.call_function(operator.getitem, (node, 0))
    emitted.meta.update({REGION: Region.STEP, SHAPE: state.meta[SHAPE]})
    states, output = tuple(next_states(graph_module).values()), output_node(graph_module)
    state.replace_all_uses_with(emitted, delete_user_cb=lambda user: user is not output)
    if state is result(graph_module):
        output.args = ((emitted, states),)
