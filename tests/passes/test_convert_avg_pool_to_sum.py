"""Average pools of whole numbers become sums."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from conftest import CheckGolden
from step_graphs import StepGraphBuilder, randomize
from torch import nn
from torch.fx import GraphModule, Node

from spikenm_compile.graph import LEVELS, REGION, SHAPE, Region, format_graph, run_steps, verify_graph
from spikenm_compile.ops import Levels
from spikenm_compile.passes.annotate_levels import AnnotateLevels
from spikenm_compile.passes.convert_avg_pool_to_sum import ConvertAvgPoolToSum
from spikenm_compile.passes.quantize_weights import QuantizeWeights


def first_spikes() -> tuple[StepGraphBuilder, Node]:
    b = StepGraphBuilder((2, 6, 6))
    b.x.meta[LEVELS] = Levels(0, 255)
    return b, b.neuron("lif1", b.layer("conv1", nn.Conv2d(2, 3, 3, padding=1), b.x))


def finish(b: StepGraphBuilder, node: Node) -> GraphModule:
    graph = b.output(node)
    randomize(graph, 0)
    AnnotateLevels().apply(graph)
    return graph


def pool_before_layer(pool: nn.Module) -> GraphModule:
    b, s = first_spikes()
    n = b.layer("pool", pool, s)
    return finish(b, b.neuron("lif2", b.layer("conv2", nn.Conv2d(3, 4, 2), n)))


def node_named(graph: GraphModule, name: str) -> Node:
    found: Node = next(n for n in graph.graph.nodes if n.name == name)
    return found


def test_golden(check_golden: CheckGolden) -> None:
    graph = pool_before_layer(nn.AvgPool2d(2))
    before = format_graph(graph)
    assert ConvertAvgPoolToSum().apply(graph)
    verify_graph(graph)
    check_golden("convert-avg-pool-to-sum", f"{before}\n{format_graph(graph)}")


POOLS = {
    "square": (nn.AvgPool2d(2), Levels(0, 4, 1 / 4)),
    "wide": (nn.AvgPool2d((2, 3)), Levels(0, 6, 1 / 6)),
    "overlapping": (nn.AvgPool2d(3, 1), Levels(0, 9, 1 / 9)),
    "padded": (nn.AvgPool2d(3, 2, 1), Levels(0, 9, 1 / 9)),
    "adaptive": (nn.AdaptiveAvgPool2d((3, 2)), Levels(0, 6, 1 / 6)),
    "padding of none not counted": (nn.AvgPool2d(2, count_include_pad=False), Levels(0, 4, 1 / 4)),
}


@pytest.mark.parametrize("case", POOLS)
def test_level_times_scale_is_the_mean(case: str) -> None:
    pool, levels = POOLS[case]
    graph = pool_before_layer(pool)
    assert ConvertAvgPoolToSum().apply(graph)
    node = node_named(graph, "pool")
    assert node.meta[LEVELS] == levels
    spikes = torch.randint(0, 2, (3, 3, 6, 6)).float()
    sums = graph.get_submodule(str(node.target))(spikes)
    assert torch.equal(sums, sums.round())
    assert sums.max() <= levels.high
    torch.testing.assert_close(sums * levels.scale, pool(spikes), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("case", POOLS)
def test_the_layer_behind_takes_over_the_scale(case: str) -> None:
    graph = pool_before_layer(POOLS[case][0])
    x = torch.randint(0, 3, (4, 2, 6, 6)).float()
    expected = run_steps(graph, x, 1).states["lif2_v"]
    ConvertAvgPoolToSum().apply(graph)
    layer = graph.get_submodule("conv2")
    wrong = run_steps(graph, x, 1).states["lif2_v"]
    with torch.no_grad():
        layer.weight.mul_(POOLS[case][1].scale)  # type: ignore[operator]
    torch.testing.assert_close(run_steps(graph, x, 1).states["lif2_v"], expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(wrong, expected)


def test_a_pool_of_a_pool_multiplies() -> None:
    b, s = first_spikes()
    n = b.layer("pool2", nn.AvgPool2d(3), b.layer("pool1", nn.AvgPool2d(2), s))
    graph = finish(b, b.neuron("lif2", b.layer("conv2", nn.Conv2d(3, 4, 1), b.layer("largest", nn.MaxPool2d(1), n))))
    ConvertAvgPoolToSum().apply(graph)
    assert [str(node_named(graph, name).meta[LEVELS]) for name in ("pool1", "pool2", "largest")] == [
        "0..4 × 0.25",
        f"0..36 × {1 / 36:.9g}",
        f"0..36 × {1 / 36:.9g}",
    ]
    assert QuantizeWeights().apply(graph)


@pytest.mark.parametrize(
    "pool",
    [
        nn.AvgPool2d(2, ceil_mode=True),
        nn.AvgPool2d(3, 2, 1, count_include_pad=False),
        nn.AvgPool2d(2, divisor_override=3),
        nn.AdaptiveAvgPool2d(4),
        nn.MaxPool2d(2),
    ],
    ids=["ceil_mode", "padding not counted", "another divisor", "unequal windows", "not an average"],
)
def test_other_pools_are_declined(pool: nn.Module) -> None:
    declines(pool_before_layer(pool))


def declines(graph: GraphModule) -> None:
    before = format_graph(graph)
    assert not ConvertAvgPoolToSum().apply(graph)
    assert format_graph(graph) == before


def test_a_pool_that_a_neuron_reads_is_declined() -> None:
    b, s = first_spikes()
    declines(finish(b, b.neuron("lif2", b.layer("pool", nn.AvgPool2d(2), s))))


def test_a_pool_that_is_returned_is_declined() -> None:
    b, s = first_spikes()
    n = b.layer("pool", nn.AvgPool2d(2), s)
    b.neuron("lif2", b.layer("conv2", nn.Conv2d(3, 4, 1), n))
    declines(finish(b, n))


def test_a_pool_of_real_values_is_declined() -> None:
    b = StepGraphBuilder((2, 6, 6))
    n = b.layer("pool", nn.AvgPool2d(2), b.layer("conv1", nn.Conv2d(2, 3, 3, padding=1), b.x))
    declines(finish(b, b.neuron("lif1", b.layer("conv2", nn.Conv2d(3, 4, 1), n))))


def test_sums_that_do_not_fit_a_byte_are_declined() -> None:
    b = StepGraphBuilder((1, 16, 16))
    s = b.neuron("lif1", b.x)
    n = b.layer("conv1", nn.Conv2d(1, 2, 1), b.layer("pool", nn.AvgPool2d(16), s))
    declines(finish(b, b.neuron("lif2", n)))


def test_a_pool_that_two_places_share_stays_a_mean_for_the_other() -> None:
    b, s = first_spikes()
    pool: Any = nn.AvgPool2d(2)
    s = b.neuron("lif2", b.layer("conv2", nn.Conv2d(3, 4, 3, padding=1), b.layer("pool", pool, s)))
    again = b.graph.call_module("pool", (s,))
    again.meta = {REGION: Region.STEP, SHAPE: (4, 1, 1)}
    graph = finish(b, b.neuron("lif3", again))
    assert ConvertAvgPoolToSum().apply(graph)
    assert node_named(graph, "pool").target != again.target
    ones = torch.ones(1, 4, 2, 2)
    assert graph.get_submodule(str(again.target))(ones).max() == 1.0
    assert graph.get_submodule(str(node_named(graph, "pool").target))(ones).max() == 4.0


def test_a_second_run_changes_nothing() -> None:
    graph = pool_before_layer(nn.AvgPool2d(2))
    ConvertAvgPoolToSum().apply(graph)
    declines(graph)
