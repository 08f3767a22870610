"""Calls of layers as their graph has them."""

from __future__ import annotations

import torch
from step_graphs import StepGraphBuilder
from torch import nn
from torch.fx import GraphModule

from spikenm_compile.layer_calls import layer_call, layer_nodes
from spikenm_compile.passes.base import run_pipeline
from spikenm_compile.passes.pipelines import lowering
from spikenm_compile.passes.quantize_inputs import choose_levels
from spikenm_compile.pattern import Pattern


def lowered(samples: torch.Tensor | None) -> GraphModule:
    b = StepGraphBuilder((3, 6, 5))
    s = b.neuron("lif1", b.layer("conv1", nn.Conv2d(3, 8, 3, padding=1), b.x))
    flat = b.layer("flatten", nn.Flatten(), s)
    graph = b.output(b.mean(b.layer("fc", nn.Linear(240, 4), flat)))
    graph.meta["num_steps"] = 7
    passes = lowering(
        choose_levels(torch.rand(2, 3, 6, 5)), Pattern(2, 4), ("event-rows", "dense-rows"), "int8", samples
    )
    return run_pipeline(passes, graph)


def test_calls_of_a_layer_before_and_one_in_the_steps() -> None:
    graph = lowered(torch.rand(2, 3, 6, 5))
    first, last = (layer_call(graph, *found) for found in layer_nodes(graph))
    assert first is not None
    assert last is not None
    assert (first.num_steps, first.channels, first.outputs, first.size, first.kernel) == (1, 3, 8, (6, 5), (3, 3))
    assert (first.is_binary, first.is_linear, first.neuron, first.num_states) == (False, False, None, 0)
    assert (last.num_steps, last.channels, last.size, last.kernel, last.out_size) == (7, 8, (6, 5), (6, 5), (1, 1))
    assert (last.is_binary, last.is_linear, last.largest_weight, last.inputs) == (True, True, 127, 240)
    assert last.density == next(c for _, c in list(layer_nodes(graph))[1:]).density


def test_nothing_is_known_of_a_layer_whose_input_was_not_measured() -> None:
    graph = lowered(None)
    assert [layer_call(graph, *found) for found in layer_nodes(graph)] == [None, None]
