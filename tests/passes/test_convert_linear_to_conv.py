"""Linear layers become convolutions, and every value [channels, height, width]."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from conftest import CheckGolden
from step_graphs import StepGraphBuilder, randomize
from torch import nn
from torch.fx import GraphModule

from spikenm_compile.errors import PassError
from spikenm_compile.graph import SHAPE, format_graph, result, run_steps, verify_graph
from spikenm_compile.passes.convert_linear_to_conv import ConvertLinearToConv, as_conv

Make = Callable[[], GraphModule]


def classifier_of_maps() -> GraphModule:
    b = StepGraphBuilder((2, 6, 6))
    s = b.neuron("lif1", b.layer("conv1", nn.Conv2d(2, 3, 3), b.x))
    n = b.layer("flatten", nn.Flatten(), b.layer("pool", nn.MaxPool2d(2), s))
    return b.output(b.mean(b.layer("fc", nn.Linear(12, 5), n)))


def chain_of_linear() -> GraphModule:
    b = StepGraphBuilder((7,), per_step=True)
    s = b.neuron("lif1", b.layer("fc1", nn.Linear(7, 6, bias=False), b.x))
    s = b.neuron("lif2", b.layer("fc2", nn.Linear(6, 8), s))
    return b.output(b.layer("fc3", nn.Linear(8, 3), s))


def flattened_pixels() -> GraphModule:
    """Maps of one pixel, flattened before the neuron."""
    b = StepGraphBuilder((2, 3, 3))
    n = b.layer("flatten", nn.Flatten(), b.layer("conv1", nn.Conv2d(2, 6, 3), b.x))
    return b.output(b.mean(b.layer("fc", nn.Linear(6, 4), b.neuron("lif", n))))


def flattened_pixels_returned() -> GraphModule:
    b = StepGraphBuilder((2, 3, 3))
    s = b.neuron("lif1", b.layer("conv1", nn.Conv2d(2, 6, 3), b.x))
    return b.output(b.layer("flatten", nn.Flatten(), s))


def rows_as_input() -> GraphModule:
    """Samples [H, W] without a channel."""
    b = StepGraphBuilder((4, 5))
    s = b.neuron("lif1", b.layer("fc1", nn.Linear(20, 6), b.layer("flatten", nn.Flatten(), b.x)))
    return b.output(b.mean(b.layer("fc2", nn.Linear(6, 3), s)))


def vector_into_neuron_and_linear() -> GraphModule:
    b = StepGraphBuilder((7,))
    s = b.neuron("lif1", b.x)
    total = b.function(torch.maximum, b.layer("fc1", nn.Linear(7, 7), s), b.layer("fc2", nn.Linear(7, 7), b.x))
    return b.output(b.neuron("lif2", total))


def readout_of_maps() -> GraphModule:
    b = StepGraphBuilder((2, 6, 6))
    s = b.neuron("lif1", b.layer("conv1", nn.Conv2d(2, 3, 3), b.x))
    side = b.neuron("lif2", b.layer("fc", nn.Linear(48, 3), b.layer("flatten", nn.Flatten(), s)))
    total = b.state("total", side.meta[SHAPE])
    b.states.append((total, b.function(torch.maximum, total, side)))
    return b.output(b.layer("conv2", nn.Conv2d(3, 4, 2), s))


GRAPHS = (
    classifier_of_maps,
    chain_of_linear,
    flattened_pixels,
    flattened_pixels_returned,
    rows_as_input,
    vector_into_neuron_and_linear,
    readout_of_maps,
)


def inputs(graph: GraphModule) -> torch.Tensor:
    source = next(iter(graph.graph.nodes))
    leading = (4, 3) if source.meta["per_step"] else (3,)
    return torch.rand(*leading, *source.meta[SHAPE]) * 2


@pytest.mark.parametrize("make", [classifier_of_maps, chain_of_linear, rows_as_input], ids=lambda f: f.__name__)
def test_golden(check_golden: CheckGolden, make: Make) -> None:
    graph = make()
    before = format_graph(graph)
    assert ConvertLinearToConv().apply(graph)
    verify_graph(graph)
    check_golden(f"convert-linear-to-conv-{make.__name__}", f"{before}\n{format_graph(graph)}")


@pytest.mark.parametrize("make", GRAPHS, ids=lambda f: f.__name__)
def test_the_meaning_and_the_user_s_shape_are_the_same(make: Make) -> None:
    graph = make()
    randomize(graph, 0)
    x = inputs(graph)
    expected = run_steps(graph, x, 4)
    ConvertLinearToConv().apply(graph)
    verify_graph(graph)
    actual = run_steps(graph, x, 4)
    assert actual.output.shape == expected.output.shape
    assert actual.output.shape[-len(result(graph).meta[SHAPE]) :] == result(graph).meta[SHAPE]
    torch.testing.assert_close(actual.output, expected.output, rtol=1e-5, atol=1e-6)
    for layer, spikes in expected.spikes.items():
        assert 0 < spikes.mean() < 1
        assert torch.equal(actual.spikes[layer].flatten(2), spikes.flatten(2))


@pytest.mark.parametrize("make", GRAPHS, ids=lambda f: f.__name__)
def test_afterwards_vectors_are_only_at_the_border(make: Make) -> None:
    graph = make()
    ConvertLinearToConv().apply(graph)
    assert not any(isinstance(m, nn.Linear) for m in graph.modules())
    for node in graph.graph.nodes:
        if node.meta.get(SHAPE) and len(node.meta[SHAPE]) != 3:
            readers = {type(graph.get_submodule(str(u.target))).__name__ for u in node.users if u.op == "call_module"}
            assert node is result(graph) or readers <= {"Unflatten", "Flatten"}


@pytest.mark.parametrize("make", GRAPHS, ids=lambda f: f.__name__)
def test_a_second_run_changes_nothing(make: Make) -> None:
    graph = make()
    ConvertLinearToConv().apply(graph)
    before = format_graph(graph)
    assert not ConvertLinearToConv().apply(graph)
    assert format_graph(graph) == before


def test_a_kernel_is_the_weight_in_the_order_of_the_flattened_map() -> None:
    linear = nn.Linear(2 * 3 * 4, 5)
    linear.nm_pattern = "mark"  # type: ignore[assignment]
    conv = as_conv(linear, (2, 3, 4))
    assert conv.weight.shape == (5, 2, 3, 4)
    assert conv.linear_input == (2, 3, 4)
    assert conv.nm_pattern == "mark"
    x = torch.rand(6, 2, 3, 4)
    torch.testing.assert_close(conv(x).flatten(1), linear(x.flatten(1)), rtol=1e-5, atol=1e-6)
    assert as_conv(nn.Linear(24, 5, bias=False), (2, 3, 4)).bias is None


def test_a_graph_of_maps_is_declined() -> None:
    b = StepGraphBuilder((2, 6, 6))
    graph = b.output(b.neuron("lif1", b.layer("conv1", nn.Conv2d(2, 3, 3), b.x)))
    before = format_graph(graph)
    assert not ConvertLinearToConv().apply(graph)
    assert format_graph(graph) == before


def test_flattened_maps_that_are_returned_are_declined() -> None:
    b = StepGraphBuilder((2, 6, 6))
    s = b.neuron("lif1", b.layer("conv1", nn.Conv2d(2, 3, 3), b.x))
    graph = b.output(b.layer("flatten", nn.Flatten(), s))
    assert not ConvertLinearToConv().apply(graph)
    assert result(graph).meta[SHAPE] == (48,)


def test_a_flattened_map_that_a_neuron_reads_is_an_error() -> None:
    b = StepGraphBuilder((2, 6, 6))
    n = b.layer("flatten", nn.Flatten(), b.layer("conv1", nn.Conv2d(2, 3, 3), b.x))
    graph = b.output(b.mean(b.layer("fc", nn.Linear(48, 4), b.neuron("lif", n))))
    with pytest.raises(PassError, match="'flatten' flattens a 4×4 map that 'lif' reads; only linear layers can read"):
        ConvertLinearToConv().apply(graph)


def test_a_linear_layer_on_rows_is_an_error() -> None:
    b = StepGraphBuilder((4, 5))
    graph = b.output(b.neuron("lif", b.layer("fc", nn.Linear(5, 6), b.x)))
    with pytest.raises(PassError, match=r"linear layer 'fc' reads values of shape \[4, 5\]; .* so flatten its input"):
        ConvertLinearToConv().apply(graph)
