"""A network in float32 as an ONNX model, for what has no integer form: one time step, or the whole network at its T.

    step     x [B, ...], num_steps (int64, steps so far), <state>...
             -> output, <state>_next..., spikes_<layer>...
    whole    x, as the network takes it -> output

Both compute what PyTorch computes, up to rounding: sums of floats depend on their order, and a potential within
rounding of its threshold may spike in one and not in the other.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

import torch
from onnx import ModelProto
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from spikenm_compile.errors import PassError
from spikenm_compile.graph import (
    INIT,
    ROLE,
    SHAPE,
    Role,
    counting_nodes,
    next_states,
    output_node,
    placeholders,
    result,
)
from spikenm_compile.lowering.onnx_exporter import export

EXAMPLE_BATCH = 2
"""Samples of the examples of a step: the exporter takes a size of one for a constant."""


def export_step(step_graph: GraphModule) -> ModelProto:
    """One time step of a step graph in float32, with a free batch size.

    Raises:
        PassError: the exporter does not take an operation of the step.
        ToolError: see `export`.
    """
    steps = {node.name: (torch.tensor(1), None) for node in placeholders(step_graph, Role.NUM_STEPS)}
    inputs = [node for node in step_graph.graph.nodes if node.op == "placeholder" and node.name not in steps]
    examples = {node.name: (_example(node), 0) for node in inputs}
    arguments = {
        node.name: (steps | examples)[node.name] for node in step_graph.graph.nodes if node.op == "placeholder"
    }
    nodes = _observed(step_graph)
    return export(_flat(step_graph, list(nodes.values())), arguments, list(nodes))


def export_whole(
    candidates: Callable[[], Iterable[AbstractContextManager[nn.Module]]], x: Tensor, batch: int | None
) -> tuple[ModelProto, bool]:
    """The whole network in float32, and whether its batch size is free.

    Args:
        candidates: gives forms of the network that compute the same; the exporter may take the one or the other.
        x: an example, whose sizes stay but for the batch.
        batch: the batch dimension of x, None: it has none.

    Raises:
        PassError: the exporter takes none of the candidates; the error is that of the first.
        ToolError: see `export`.
    """
    failures: list[PassError] = []
    for dimension in dict.fromkeys((batch, None)):
        for candidate in candidates():
            try:
                with candidate as network:
                    return export(network, {"x": (x, dimension)}, ("output",)), dimension is not None
            except PassError as error:
                failures.append(error)
    raise failures[0]


def _example(node: Node) -> Tensor:
    value = node.meta[INIT] if node.meta[ROLE] is Role.STATE else 0.0
    return torch.full((EXAMPLE_BATCH, *node.meta[SHAPE]), value)


def _observed(step_graph: GraphModule) -> dict[str, Node]:
    """Output of the ONNX model -> node whose value it is."""
    states = {f"{state.name}_next": value for state, value in next_states(step_graph).items()}
    spikes = {f"spikes_{layer}": node for layer, node in counting_nodes(step_graph).items()}
    return {"output": result(step_graph), **states, **spikes}


def _flat(step_graph: GraphModule, nodes: list[Node]) -> GraphModule:
    """The step graph with all of `nodes` for its outputs, each a value of its own; shares its modules."""
    graph = copy.deepcopy(step_graph.graph)
    copies = {node.name: node for node in graph.nodes}
    flat = GraphModule(step_graph, graph)
    end = output_node(flat)
    with graph.inserting_before(end):
        # ONNX has no output of two names: a value that is read under the second gets an operation of its own
        end.args = (tuple(graph.call_function(torch.clone, (copies[node.name],)) for node in nodes),)
    flat.recompile()
    return flat
