"""Which values are whole numbers."""

from __future__ import annotations

import operator
from collections.abc import Callable

import pytest
import torch
from conftest import CheckGolden
from step_graphs import StepGraphBuilder
from torch import nn
from torch.fx import GraphModule, Node

from spikenm_compile.errors import PassError
from spikenm_compile.graph import LEVELS, format_graph, run_steps
from spikenm_compile.ops import Levels
from spikenm_compile.passes.annotate_levels import AnnotateLevels
from spikenm_compile.passes.convert_linear_to_conv import ConvertLinearToConv
from spikenm_compile.passes.quantize_inputs import QuantizeInputs

SIXTEENTHS = Levels(0, 255, 0.0625)


def two_branches() -> tuple[StepGraphBuilder, Node, Node]:
    b = StepGraphBuilder((3, 4, 4))
    left = b.neuron("lif1", b.layer("conv1", nn.Conv2d(3, 5, 3, padding=1), b.x))
    right = b.neuron("lif2", b.layer("conv2", nn.Conv2d(5, 5, 3, padding=1), left))
    return b, left, right


def annotated(graph: GraphModule) -> dict[str, str]:
    return {n.name: str(n.meta[LEVELS]) for n in graph.graph.nodes if LEVELS in n.meta}


def test_golden(check_golden: CheckGolden) -> None:
    b, left, right = two_branches()
    pooled = b.layer("pool", nn.MaxPool2d(2), b.function(operator.add, left, right))
    graph = b.output(b.neuron("lif3", b.layer("conv3", nn.Conv2d(5, 4, 1), pooled)))
    QuantizeInputs(SIXTEENTHS).apply(graph)
    before = format_graph(graph)
    assert AnnotateLevels().apply(graph)
    check_golden("annotate-levels", f"{before}\n{format_graph(graph)}")


def test_spikes_pools_and_sums_have_levels_and_the_rest_has_none() -> None:
    b, left, right = two_branches()
    total = b.function(operator.add, b.function(operator.add, left, right), left)
    pooled = b.layer("pool", nn.MaxPool2d(2), total)
    average = b.layer("average", nn.AvgPool2d(2), total)
    b.neuron("lif4", average)
    b.neuron("lif5", b.function(torch.maximum, left, right))
    graph = b.output(b.neuron("lif3", b.layer("conv3", nn.Conv2d(5, 4, 1), pooled)))
    AnnotateLevels().apply(graph)
    assert annotated(graph) == {
        "getitem": "spikes",
        "getitem_2": "spikes",
        "add": "0..2",
        "add_1": "0..3",
        "pool": "0..3",
        "getitem_4": "spikes",
        "getitem_6": "spikes",
        "getitem_8": "spikes",
    }


def test_every_annotated_value_is_within_its_levels() -> None:
    b, left, right = two_branches()
    total = b.function(operator.add, b.function(operator.add, left, right), left)
    graph = b.output(b.layer("pool", nn.MaxPool2d(3, 1, 1), total))
    AnnotateLevels().apply(graph)
    with torch.no_grad():
        for module in (graph.get_submodule("conv1"), graph.get_submodule("conv2")):
            module.bias.fill_(2.0)  # type: ignore[operator]
    output = run_steps(graph, torch.rand(2, 3, 4, 4), 4).output
    assert set(output.flatten().tolist()) <= {0.0, 1.0, 2.0, 3.0}
    assert output.max() == 3.0


def test_a_value_added_to_itself_counts_twice() -> None:
    b, left, _ = two_branches()
    graph = b.output(b.function(operator.add, left, left))
    AnnotateLevels().apply(graph)
    assert annotated(graph)["add"] == "0..2"


def sum_with_real(b: StepGraphBuilder, left: Node) -> Node:
    return b.function(operator.add, left, b.layer("conv3", nn.Conv2d(5, 5, 1), left))


def sum_with_number(b: StepGraphBuilder, left: Node) -> Node:
    return b.function(operator.add, left, 1.0)


def product(b: StepGraphBuilder, left: Node) -> Node:
    return b.function(operator.mul, left, left)


def sum_over_time(b: StepGraphBuilder, left: Node) -> Node:
    total = b.state("total", left.meta["shape"])
    b.states.append((total, b.function(operator.add, total, left)))
    return b.states[-1][1]


def average(b: StepGraphBuilder, left: Node) -> Node:
    return b.layer("average", nn.AvgPool2d(2), left)


@pytest.mark.parametrize(
    "make", [sum_with_real, sum_with_number, product, sum_over_time, average], ids=lambda f: f.__name__
)
def test_real_values_are_declined(make: Callable[[StepGraphBuilder, Node], Node]) -> None:
    b, left, _ = two_branches()
    node = make(b, left)
    AnnotateLevels().apply(b.output(node))
    assert LEVELS not in node.meta


def test_counts_that_do_not_fit_a_byte_are_real() -> None:
    b, node, _ = two_branches()
    sums = []
    for _ in range(8):  # 2, 4, ..., 256
        node = b.function(operator.add, node, node)
        sums.append(node)
    AnnotateLevels().apply(b.output(node))
    assert [str(n.meta.get(LEVELS)) for n in sums[-3:]] == ["0..64", "0..128", "None"]


def test_a_vector_keeps_the_scale_of_the_input() -> None:
    b = StepGraphBuilder((4,))
    graph = b.output(b.neuron("lif", b.layer("fc", nn.Linear(4, 3), b.x)))
    ConvertLinearToConv().apply(graph)
    QuantizeInputs(SIXTEENTHS).apply(graph)
    AnnotateLevels().apply(graph)
    assert annotated(graph)["quantize"] == "0..255 × 0.0625"


@pytest.mark.parametrize("reader", ["neuron", "join", "average"])
def test_a_scaled_level_that_would_be_taken_for_its_value_is_an_error(reader: str) -> None:
    b = StepGraphBuilder((3, 4, 4))
    b.x.meta[LEVELS] = SIXTEENTHS
    if reader == "neuron":
        node, name = b.neuron("lif1", b.x), "lif1"
    elif reader == "join":
        node, name = b.function(operator.add, b.x, b.neuron("lif1", b.layer("c", nn.Conv2d(3, 3, 1), b.x))), "add"
    else:
        node, name = b.layer("pool", nn.AvgPool2d(2), b.x), "pool"
    graph = b.output(node)
    with pytest.raises(PassError, match=f"'{name}' reads the quantised input 'x'; only convolution and linear layers"):
        AnnotateLevels().apply(graph)


def test_a_scale_of_one_may_be_taken_for_its_value() -> None:
    b = StepGraphBuilder((3, 4, 4))
    b.x.meta[LEVELS] = Levels(0, 255, 1.0)
    AnnotateLevels().apply(b.output(b.neuron("lif1", b.x)))


def test_the_graph_itself_stays_and_a_second_run_changes_nothing() -> None:
    b, left, right = two_branches()
    graph = b.output(b.function(operator.add, left, right))
    names = [n.name for n in graph.graph.nodes]
    assert AnnotateLevels().apply(graph)
    before = format_graph(graph)
    assert not AnnotateLevels().apply(graph)
    assert format_graph(graph) == before
    assert [n.name for n in graph.graph.nodes] == names


@pytest.mark.parametrize(("first", "expected"), [(0.0, "spikes"), (1.0, "spikes"), (0.5, None), (2.0, None)])
def test_a_state_has_the_levels_of_what_it_holds(first: float, expected: str | None) -> None:
    b = StepGraphBuilder((3, 4, 4))
    previous, other = b.state("previous", (3, 4, 4), first), b.state("other", (3, 4, 4))
    spikes = b.neuron("lif1", b.layer("back", nn.Conv2d(3, 3, 3, padding=1), previous))
    b.states += [(previous, spikes), (other, b.layer("conv", nn.Conv2d(3, 3, 1), spikes))]
    graph = b.output(b.function(operator.add, spikes, other))
    assert AnnotateLevels().apply(graph)
    assert annotated(graph).get("previous") == expected
    assert "other" not in annotated(graph)
    assert ("= 0 (spikes)" in format_graph(graph)) == (first == 0.0)
    assert not AnnotateLevels().apply(graph)
