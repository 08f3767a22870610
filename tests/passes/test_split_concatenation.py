"""A linear layer on two vectors becomes two layers."""

from __future__ import annotations

import operator

import pytest
import torch
from conftest import CheckGolden
from step_graphs import StepGraphBuilder, randomize
from torch import nn
from torch.fx import GraphModule

from spikenm_compile.errors import PassError
from spikenm_compile.graph import format_graph, run_steps, verify_graph
from spikenm_compile.passes.split_concatenation import SplitConcatenation
from spikenm_compile.pattern import Pattern


def recurrent(*, bias: bool = True) -> GraphModule:
    """Input and previous spikes through one layer."""
    b = StepGraphBuilder((8,), per_step=True)
    previous = b.state("previous", (6,))
    spikes = b.neuron("lif", b.layer("rc", nn.Linear(14, 6, bias=bias), b.concatenation(b.x, previous)))
    b.states.append((previous, spikes))
    graph = b.output(spikes)
    randomize(graph, 0)
    return graph


def test_golden(check_golden: CheckGolden) -> None:
    graph = recurrent()
    before = format_graph(graph)
    assert SplitConcatenation().apply(graph)
    verify_graph(graph)
    check_golden("split-concatenation", f"{before}\n{format_graph(graph)}")


@pytest.mark.parametrize("bias", [False, True])
def test_the_sums_are_the_same_up_to_rounding(bias: bool) -> None:
    graph, x = recurrent(bias=bias).double(), 4 * torch.rand(12, 5, 8).double()
    states = {"previous": torch.zeros(5, 6).double(), "lif_v": torch.zeros(5, 6).double()}
    expected = run_steps(graph, x, states=states)
    SplitConcatenation().apply(graph)
    actual = run_steps(graph.double(), x, states=states)
    torch.testing.assert_close(actual.states["lif_v"], expected.states["lif_v"], rtol=0, atol=1e-12)
    assert torch.equal(actual.output, expected.output)
    assert 0.1 < expected.output.mean() < 0.9


def test_layers_keep_the_name_and_a_pattern_where_its_groups_allow() -> None:
    for pattern, kept in ((Pattern(1, 2), [True, True]), (Pattern(2, 4), [True, False]), (Pattern(2, 7), [False] * 2)):
        graph = recurrent()
        graph.get_submodule("rc").nm_pattern = pattern  # type: ignore[assignment]
        SplitConcatenation().apply(graph)
        assert [node.meta["layer"] for node in graph.graph.nodes if "layer" in node.meta] == ["rc.0", "rc.1", "lif"]
        assert [hasattr(graph.get_submodule(name), "nm_pattern") for name in ("rc_0", "rc_1")] == kept


def test_other_layers_are_left_alone_and_a_second_run_changes_nothing() -> None:
    b = StepGraphBuilder((8,))
    plain = b.output(b.neuron("lif", b.layer("fc", nn.Linear(8, 6), b.x)))
    assert not SplitConcatenation().apply(plain)
    graph = recurrent()
    SplitConcatenation().apply(graph)
    before = format_graph(graph)
    assert not SplitConcatenation().apply(graph)
    assert format_graph(graph) == before


def test_other_readers_and_maps_are_refused() -> None:
    b = StepGraphBuilder((8,))
    node = b.concatenation(b.x, b.x)
    b.layer("fc", nn.Linear(16, 3), node)
    graph = b.output(b.function(operator.mul, node, 2.0))
    with pytest.raises(PassError, match=r"'cat' puts values of shape \[16\] one behind the other for mul; .* add the"):
        SplitConcatenation().apply(graph)
    b = StepGraphBuilder((3, 8))
    graph = b.output(b.layer("fc", nn.Linear(16, 3), b.concatenation(b.x, b.x)))
    with pytest.raises(PassError, match=r"'cat' puts values of shape \[3, 16\] one behind the other for fc"):
        SplitConcatenation().apply(graph)
