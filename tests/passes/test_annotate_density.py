"""How much of their input layers find active."""

from __future__ import annotations

import torch
from conftest import CheckGolden
from step_graphs import StepGraphBuilder
from torch.fx import GraphModule

from spikenm_compile.graph import format_graph, run_steps
from spikenm_compile.ops import IntConv2d, Levels
from spikenm_compile.passes.annotate_density import AnnotateDensity
from spikenm_compile.passes.fuse_neuron import FuseNeuron


def identity(name: str) -> IntConv2d:
    """Neurons behind it spike where its input is not zero."""
    weight = torch.eye(2, dtype=torch.int8)[:, :, None, None] * 4
    conv = IntConv2d(weight, torch.ones(2), torch.zeros(2), levels=Levels(0, 3))
    conv.layer = name
    return conv


def two_layers() -> GraphModule:
    b = StepGraphBuilder((2, 2, 2), per_step=True)
    s = b.neuron("lif1", b.layer("conv1", identity("conv1"), b.x))
    graph = b.output(b.mean(b.neuron("lif2", b.layer("conv2", identity("conv2"), s))))
    FuseNeuron().apply(graph)
    return graph


def samples() -> torch.Tensor:
    """Of 2 steps, 3 samples and 8 inputs, five are active."""
    x = torch.zeros(2, 3, 8)
    x[0, 0, :3], x[1, 2, 5:7] = 3, 1
    return x.view(2, 3, 2, 2, 2)


def densities(graph: GraphModule) -> list[float | None]:
    return [m.density for m in graph.modules() if isinstance(m, IntConv2d)]


def test_golden(check_golden: CheckGolden) -> None:
    graph = two_layers()
    before = format_graph(graph)
    assert AnnotateDensity(samples()).apply(graph)
    check_golden("annotate-density", f"{before}\n{format_graph(graph)}")


def test_the_share_is_over_samples_positions_and_steps() -> None:
    graph = two_layers()
    AnnotateDensity(samples()).apply(graph)
    assert densities(graph) == [5 / 48, 5 / 48]


def test_the_mean_is_of_the_levels_that_are_not_zero() -> None:
    graph = two_layers()
    AnnotateDensity(samples()).apply(graph)
    assert [m.mean_level for m in graph.modules() if isinstance(m, IntConv2d)] == [(3 * 3 + 2 * 1) / 5, 1]


def test_without_samples_nothing_is_known() -> None:
    graph = two_layers()
    assert not AnnotateDensity(None).apply(graph)
    assert densities(graph) == [None, None]


def test_the_meaning_is_the_same_and_a_second_run_changes_nothing() -> None:
    graph = two_layers()
    expected = run_steps(graph, samples()).output
    AnnotateDensity(samples()).apply(graph)
    before = format_graph(graph)
    assert not AnnotateDensity(torch.zeros_like(samples())).apply(graph)
    assert format_graph(graph) == before
    assert torch.equal(run_steps(graph, samples()).output, expected)
