"""Batch normalisation becomes the weights and bias of the layer before it."""

from __future__ import annotations

import operator
from typing import Any

import pytest
import torch
from conftest import CheckGolden
from step_graphs import StepGraphBuilder, randomize
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from spikenm_compile.graph import LAYER, REGION, SHAPE, Region, format_graph, run_steps, verify_graph
from spikenm_compile.neurons import integrate_and_fire
from spikenm_compile.passes.fold_batchnorm import FoldBatchNorm, fold
from spikenm_compile.passes.hoist_time_invariant import HoistTimeInvariant

QUIET = integrate_and_fire(v_threshold=1e9)
"""Never fires, so that its potential is the sum of its currents."""


def graph_of(shape: tuple[int, ...], layer: nn.Module, norm: nn.Module) -> GraphModule:
    b = StepGraphBuilder(shape)
    n = b.layer("norm", norm, b.layer("layer", layer, b.x))
    graph = b.output(b.mean(b.neuron("lif", n, QUIET)))
    randomize(graph, 1)
    return graph


def norms(graph: GraphModule) -> list[str]:
    return [name for name, m in graph.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


def potential(graph: GraphModule, x: Tensor) -> Tensor:
    with torch.no_grad():
        return run_steps(graph, x, 1).states["lif_v"]


CASES: dict[str, tuple[tuple[int, ...], nn.Module, nn.Module]] = {
    "conv": ((3, 6, 6), nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)),
    "conv without bias": ((3, 6, 6), nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8)),
    "geometry": ((4, 7, 7), nn.Conv2d(4, 8, (3, 2), (2, 1), (1, 2), (2, 1), groups=2), nn.BatchNorm2d(8)),
    "circular padding": ((3, 6, 6), nn.Conv2d(3, 8, 3, padding=1, padding_mode="circular"), nn.BatchNorm2d(8)),
    "padding as a word": ((3, 6, 6), nn.Conv2d(3, 8, 3, padding="same"), nn.BatchNorm2d(8)),
    "over a line": ((4, 7), nn.Conv1d(4, 8, 3, 2, 1, groups=2), nn.BatchNorm1d(8)),
    "over a volume": ((4, 5, 5, 5), nn.Conv3d(4, 8, 3, padding=(1, 0, 1), bias=False), nn.BatchNorm3d(8)),
    "linear": ((10,), nn.Linear(10, 6), nn.BatchNorm1d(6)),
    "linear without bias": ((10,), nn.Linear(10, 6, bias=False), nn.BatchNorm1d(6)),
    "not affine": ((3, 6, 6), nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, affine=False)),
    "large epsilon": ((10,), nn.Linear(10, 6), nn.BatchNorm1d(6, eps=0.3)),
}


def randomize_norm(norm: nn.Module) -> None:
    assert isinstance(norm, nn.modules.batchnorm._BatchNorm)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.uniform_(-0.3, 0.3)
    norm.running_var.uniform_(0.5, 2.0)


def test_golden(check_golden: CheckGolden) -> None:
    graph = graph_of((3, 6, 6), nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    before = format_graph(graph)
    assert FoldBatchNorm().apply(graph)
    verify_graph(graph)
    check_golden("fold-batchnorm", f"{before}\n{format_graph(graph)}")


@pytest.mark.parametrize("case", CASES)
def test_the_layer_computes_the_pair_within_float32_rounding(case: str) -> None:
    shape, layer, norm = CASES[case]
    b = StepGraphBuilder(shape)
    randomize_norm(norm)
    graph = b.output(b.mean(b.neuron("lif", b.layer("norm", norm, b.layer("layer", layer, b.x)), QUIET)))
    x = torch.randn(5, *shape)
    expected = potential(graph, x)
    assert FoldBatchNorm().apply(graph)
    assert norms(graph) == []
    assert expected.abs().max() > 0.3
    torch.testing.assert_close(potential(graph, x), expected, rtol=1e-5, atol=3e-6)


def test_the_fold_is_computed_in_float64_and_rounded_once() -> None:
    layer, norm = nn.Linear(7, 5), nn.BatchNorm1d(5).eval()
    randomize_norm(norm)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2.0)
        norm.bias.uniform_(-1.0, 1.0)
    x = torch.randn(4, 7)
    expected = norm.double()(layer.double()(x.double()))
    layer.float(), norm.float()
    folded = fold(layer, norm)
    assert folded.weight.dtype is torch.float32
    torch.testing.assert_close(folded.double()(x.double()), expected, rtol=0.0, atol=1e-6)
    k = norm.weight.detach().double() / torch.sqrt(norm.running_var.double() + norm.eps)  # type: ignore[union-attr]
    assert torch.equal(fold(layer, norm).weight, (layer.weight.detach().double() * k[:, None]).float())


def test_zero_weights_stay_zero_and_the_pattern_mark_stays() -> None:
    layer: Any = nn.Conv2d(4, 4, 3)
    with torch.no_grad():
        layer.weight[:, ::2] = 0.0
    layer.nm_pattern = "mark"
    norm = nn.BatchNorm2d(4).eval()
    randomize_norm(norm)
    folded = fold(layer, norm)
    assert torch.equal(folded.weight == 0, layer.weight == 0)
    assert folded.nm_pattern == "mark"


def test_names_of_the_user_stay() -> None:
    graph = graph_of((3, 6, 6), nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    FoldBatchNorm().apply(graph)
    assert next(n for n in graph.graph.nodes if n.name == "layer").meta[LAYER] == "layer"


def declines(graph: GraphModule) -> None:
    before = format_graph(graph)
    assert not FoldBatchNorm().apply(graph)
    assert format_graph(graph) == before


def test_a_layer_with_another_reader_is_declined() -> None:
    b = StepGraphBuilder((3, 6, 6))
    n = b.layer("conv", nn.Conv2d(3, 8, 3), b.x)
    total = b.function(operator.add, b.layer("norm", nn.BatchNorm2d(8), n), n)
    declines(b.output(b.mean(b.neuron("lif", total))))


def test_a_norm_before_its_layer_is_declined() -> None:
    b = StepGraphBuilder((3, 6, 6))
    n = b.layer("conv", nn.Conv2d(3, 8, 3), b.layer("norm", nn.BatchNorm2d(3), b.x))
    declines(b.output(b.mean(b.neuron("lif", n))))


def test_a_norm_behind_a_neuron_or_pool_is_declined() -> None:
    b = StepGraphBuilder((3, 6, 6))
    s = b.neuron("lif", b.layer("conv", nn.Conv2d(3, 8, 3), b.x))
    pooled = b.layer("pool", nn.MaxPool2d(2), b.layer("norm", nn.BatchNorm2d(8), s))
    declines(b.output(b.mean(b.layer("norm2", nn.BatchNorm2d(8), pooled))))


def test_a_norm_without_running_statistics_is_declined() -> None:
    b = StepGraphBuilder((3, 6, 6))
    n = b.layer("norm", nn.BatchNorm2d(8, track_running_stats=False), b.layer("conv", nn.Conv2d(3, 8, 3), b.x))
    declines(b.output(b.mean(b.neuron("lif", n))))


def test_a_norm_over_the_rows_of_a_linear_layer_is_declined() -> None:
    declines(graph_of((6, 6), nn.Linear(6, 6), nn.BatchNorm1d(6)))


def second_call(b: StepGraphBuilder, first: Node, source: Node) -> Node:
    node = b.graph.call_module(str(first.target), (source,))
    node.meta = {REGION: Region.STEP, SHAPE: first.meta[SHAPE], LAYER: first.meta[LAYER]}
    return node


def test_a_layer_that_is_called_twice_is_declined() -> None:
    b = StepGraphBuilder((3, 6, 6))
    first = b.layer("conv", nn.Conv2d(3, 3, 3, padding=1), b.x)
    s = b.neuron("lif1", b.layer("norm", nn.BatchNorm2d(3), first))
    declines(b.output(b.mean(b.neuron("lif2", second_call(b, first, s)))))


def test_a_norm_that_is_returned_at_every_step_still_is() -> None:
    b = StepGraphBuilder((3, 6, 6))
    n = b.layer("norm", nn.BatchNorm2d(8), b.layer("conv", nn.Conv2d(3, 8, 3), b.x))
    graph = b.output(n)
    HoistTimeInvariant().apply(graph)
    x = torch.randn(2, 3, 6, 6)
    expected = run_steps(graph, x, 3).output
    assert FoldBatchNorm().apply(graph)
    verify_graph(graph)
    torch.testing.assert_close(run_steps(graph, x, 3).output, expected, rtol=1e-5, atol=1e-6)


def test_a_second_run_changes_nothing() -> None:
    graph = graph_of((3, 6, 6), nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    FoldBatchNorm().apply(graph)
    before, weight = format_graph(graph), graph.get_submodule("layer").weight
    assert not FoldBatchNorm().apply(graph)
    assert format_graph(graph) == before
    assert graph.get_submodule("layer").weight is weight
