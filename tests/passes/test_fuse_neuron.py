"""A layer and its neuron as one operation."""

from __future__ import annotations

import operator

import neuron_kinds
import pytest
import torch
from conftest import CheckGolden
from step_graphs import StepGraphBuilder
from torch import nn
from torch.fx import GraphModule

from spikenm_compile.graph import LAYER, format_graph, run_steps, spike_nodes, verify_graph
from spikenm_compile.ops import IntConv2d, IntConvNeuron, Levels, NeuronStep
from spikenm_compile.passes.fuse_neuron import FuseNeuron
from spikenm_compile.passes.hoist_time_invariant import HoistTimeInvariant


def int_conv(name: str, inputs: int, outputs: int) -> IntConv2d:
    weight = torch.randint(-127, 128, (outputs, inputs, 3, 3), dtype=torch.int8)
    conv = IntConv2d(weight, torch.full((outputs,), 0.004), torch.rand(outputs), levels=Levels(0, 1), padding=(1, 1))
    conv.layer = name
    return conv


def two_layers(*, per_step: bool = False) -> GraphModule:
    b = StepGraphBuilder((2, 4, 4), per_step=per_step)
    s = b.neuron("lif1", b.layer("conv1", int_conv("conv1", 2, 3), b.x))
    graph = b.output(b.mean(b.neuron("lif2", b.layer("conv2", int_conv("conv2", 3, 5), s))))
    HoistTimeInvariant().apply(graph)
    return graph


def kinds(graph: GraphModule) -> dict[str, str]:
    nodes = [n for n in graph.graph.nodes if n.op == "call_module"]
    return {n.name: type(graph.get_submodule(str(n.target))).__name__ for n in nodes}


def test_golden(check_golden: CheckGolden) -> None:
    graph = two_layers()
    before = format_graph(graph)
    assert FuseNeuron().apply(graph)
    verify_graph(graph)
    check_golden("fuse-neuron", f"{before}\n{format_graph(graph)}")


@pytest.mark.parametrize("per_step", [False, True])
def test_the_meaning_is_the_same(per_step: bool) -> None:
    graph = two_layers(per_step=per_step)
    x = torch.randint(0, 2, (4, 3, 2, 4, 4) if per_step else (3, 2, 4, 4)).float()
    expected = run_steps(graph, x, None if per_step else 4)
    assert FuseNeuron().apply(graph)
    actual = run_steps(graph, x, None if per_step else 4)
    assert torch.equal(actual.output, expected.output)
    assert actual.spikes.keys() == expected.spikes.keys() == {"lif1", "lif2"}
    assert actual.states.keys() == expected.states.keys()
    for name, spikes in expected.spikes.items():
        assert 0 < spikes.mean() < 1
        assert torch.equal(actual.spikes[name], spikes)
    assert all(torch.equal(actual.states[name], v) for name, v in expected.states.items())


def test_a_current_of_each_step_is_fused_and_keeps_the_layer_s_name() -> None:
    graph = two_layers(per_step=True)
    FuseNeuron().apply(graph)
    assert kinds(graph) == {"lif1": "IntConvNeuron", "lif2": "IntConvNeuron"}
    assert [n.meta[LAYER] for n in graph.graph.nodes if n.op == "call_module"] == ["conv1", "conv2"]
    assert list(spike_nodes(graph)) == ["lif1", "lif2"]
    assert [name for name, m in graph.named_children()] == ["lif1", "lif2"]


def test_a_current_computed_before_the_steps_is_declined() -> None:
    graph = two_layers()
    FuseNeuron().apply(graph)
    assert kinds(graph) == {"conv1": "IntConv2d", "lif1": "NeuronStep", "lif2": "IntConvNeuron"}


def test_a_current_with_two_readers_is_declined() -> None:
    b = StepGraphBuilder((2, 4, 4), per_step=True)
    n = b.layer("conv1", int_conv("conv1", 2, 3), b.x)
    graph = b.output(b.mean(b.function(operator.add, b.neuron("lif1", n), b.neuron("lif2", n))))
    before = format_graph(graph)
    assert not FuseNeuron().apply(graph)
    assert format_graph(graph) == before


def test_a_current_that_is_returned_too_is_declined() -> None:
    b = StepGraphBuilder((2, 4, 4), per_step=True)
    n = b.layer("conv1", int_conv("conv1", 2, 3), b.x)
    b.neuron("lif1", n)
    assert not FuseNeuron().apply(b.output(n))


def test_a_neuron_of_two_inputs_is_declined() -> None:
    b = StepGraphBuilder((2, 4, 4), per_step=True)
    left, right = (b.layer(name, int_conv(name, 2, 3), b.x) for name in ("conv1", "conv2"))
    assert not FuseNeuron().apply(b.output(b.mean(b.neuron("lif", left, neuron_kinds.two_inputs(3), (right,)))))


def test_a_neuron_behind_anything_else_is_declined() -> None:
    b = StepGraphBuilder((3, 4, 4), per_step=True)
    s = b.neuron("lif1", b.x)
    s = b.neuron("lif2", b.layer("pool", nn.MaxPool2d(2), s))
    assert not FuseNeuron().apply(b.output(b.neuron("lif3", b.layer("real", nn.Conv2d(3, 3, 1), s))))


def test_a_second_run_changes_nothing() -> None:
    graph = two_layers()
    FuseNeuron().apply(graph)
    before = format_graph(graph)
    assert not FuseNeuron().apply(graph)
    assert format_graph(graph) == before
    fused = graph.get_submodule("lif2")
    assert isinstance(fused, IntConvNeuron)
    assert isinstance(fused.neuron, NeuronStep)
