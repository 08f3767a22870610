"""What does not change over time is computed once."""

from __future__ import annotations

import operator

import pytest
import torch
from conftest import CheckGolden
from step_graphs import StepGraphBuilder, randomize
from torch import nn
from torch.fx import GraphModule

from spikenm_compile.graph import REGION, Region, format_graph, run_steps, verify_graph
from spikenm_compile.passes.hoist_time_invariant import HoistTimeInvariant


def two_layers(*, per_step: bool) -> GraphModule:
    b = StepGraphBuilder((2, 4, 4), per_step=per_step)
    n = b.layer("bn1", nn.BatchNorm2d(3), b.layer("conv1", nn.Conv2d(2, 3, 3), b.x))
    s = b.neuron("lif1", n)
    graph = b.output(b.mean(b.layer("conv2", nn.Conv2d(3, 5, 2), s)))
    randomize(graph, 0)
    return graph


def regions(graph: GraphModule) -> dict[str, Region]:
    return {n.name: n.meta[REGION] for n in graph.graph.nodes if n.op.startswith("call_")}


def test_golden(check_golden: CheckGolden) -> None:
    graph = two_layers(per_step=False)
    before = format_graph(graph)
    assert HoistTimeInvariant().apply(graph)
    verify_graph(graph)
    check_golden("hoist-time-invariant", f"{before}\n{format_graph(graph)}")


def test_the_meaning_is_the_same_and_a_hoisted_layer_runs_once() -> None:
    graph, x = two_layers(per_step=False), torch.rand(3, 2, 4, 4)
    calls: list[str] = []
    for name, module in graph.named_children():
        module.register_forward_hook(lambda _m, _x, _y, name=name: calls.append(name))
    expected = run_steps(graph, x, 4)
    assert calls.count("conv1") == 4
    HoistTimeInvariant().apply(graph)
    calls.clear()
    actual = run_steps(graph, x, 4)
    assert torch.equal(actual.output, expected.output)
    assert torch.equal(actual.spikes["lif1"], expected.spikes["lif1"])
    assert [calls.count(name) for name in ("conv1", "bn1", "lif1", "conv2")] == [1, 1, 4, 4]


def test_an_input_of_each_step_keeps_everything_in_the_steps() -> None:
    graph = two_layers(per_step=True)
    before = format_graph(graph)
    assert not HoistTimeInvariant().apply(graph)
    assert format_graph(graph) == before


def test_what_a_state_reaches_stays() -> None:
    graph = two_layers(per_step=False)
    HoistTimeInvariant().apply(graph)
    assert {name for name, region in regions(graph).items() if region is Region.BEFORE} == {"conv1", "bn1"}
    assert regions(graph)["truediv"] is Region.AFTER


def test_what_the_model_returns_at_every_step_stays() -> None:
    b = StepGraphBuilder((2, 4, 4))
    hidden = b.layer("conv1", nn.Conv2d(2, 3, 3), b.x)
    graph = b.output(b.layer("conv2", nn.Conv2d(3, 5, 2), hidden))
    x = torch.rand(3, 2, 4, 4)
    expected = run_steps(graph, x, 4).output
    assert HoistTimeInvariant().apply(graph)
    assert regions(graph) == {"conv1": Region.BEFORE, "conv2": Region.STEP}
    assert expected.shape == (4, 3, 5, 1, 1)
    assert torch.equal(run_steps(graph, x, 4).output, expected)


def test_the_next_value_of_a_state_stays() -> None:
    b = StepGraphBuilder((3,))
    previous = b.state("previous", (3,))
    doubled = b.function(operator.mul, b.x, 2.0)
    b.states.append((previous, doubled))
    graph = b.output(b.function(operator.add, previous, doubled))
    assert not HoistTimeInvariant().apply(graph)
    x = torch.ones(1, 3)
    assert run_steps(graph, x, 3).output[:, 0, 0].tolist() == [2.0, 4.0, 4.0]


@pytest.mark.parametrize("per_step", [False, True])
def test_a_second_run_changes_nothing(per_step: bool) -> None:
    graph = two_layers(per_step=per_step)
    HoistTimeInvariant().apply(graph)
    before = format_graph(graph)
    assert not HoistTimeInvariant().apply(graph)
    assert format_graph(graph) == before
