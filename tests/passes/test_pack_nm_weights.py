"""In which N:M form weights are stored."""

from __future__ import annotations

import re

import pytest
import torch
from conftest import CheckGolden
from step_graphs import StepGraphBuilder, randomize
from torch import nn
from torch.fx import GraphModule

from spikenm_compile.errors import PassError
from spikenm_compile.graph import format_graph, run_steps
from spikenm_compile.ops import IntConv2d, Levels
from spikenm_compile.passes.base import run_pipeline
from spikenm_compile.passes.pack_nm_weights import PackNMWeights
from spikenm_compile.passes.pipelines import lowering
from spikenm_compile.pattern import Pattern

TWO_OF_FOUR = Pattern(2, 4)


def quantised(*, marked: Pattern | None = None, pattern: Pattern = TWO_OF_FOUR, channels: int = 8) -> GraphModule:
    """conv1 (2 channels) -> conv2, which holds `pattern` -> fc over maps of 3×3, as this pass finds it."""
    b = StepGraphBuilder((2, 3, 3))
    conv2 = nn.Conv2d(channels, 8, 3, padding=1)
    s = b.neuron("lif1", b.layer("conv1", nn.Conv2d(2, channels, 3, padding=1), b.x))
    s = b.neuron("lif2", b.layer("conv2", conv2, s))
    graph = b.output(b.mean(b.layer("fc", nn.Linear(72, 5), b.layer("flatten", nn.Flatten(), s))))
    randomize(graph, 0)
    if pattern.divides(channels):
        with torch.no_grad():
            conv2.weight.copy_(pattern.project(conv2.weight))
    if marked is not None:
        conv2.nm_pattern = marked  # type: ignore[assignment]
    before = [p for p in lowering(Levels(0, 255, 0.0625), TWO_OF_FOUR, ()) if type(p) not in (PackNMWeights,)]
    return run_pipeline(before[: [p.name for p in before].index("fuse-neuron")], graph)


def decisions(graph: GraphModule) -> dict[str, tuple[str | None, str]]:
    convs = [m for m in graph.modules() if isinstance(m, IntConv2d)]
    return {c.layer: (str(c.pattern) if c.pattern else None, c.why) for c in convs}


def test_golden(check_golden: CheckGolden) -> None:
    graph = quantised()
    before = format_graph(graph)
    assert PackNMWeights(TWO_OF_FOUR).apply(graph)
    check_golden("pack-nm-weights", f"{before}\n{format_graph(graph)}")


def test_each_layer_gets_its_pattern_or_the_reason_why_not() -> None:
    graph = quantised()
    PackNMWeights(TWO_OF_FOUR).apply(graph)
    assert decisions(graph) == {
        "conv1": (None, "2 input channels do not split into groups of 4"),
        "conv2": ("2:4", "at most 2 of 4 weights are not zero"),
        "fc": (None, "up to 4 of 4 weights are not zero: not trained as 2:4"),
    }


def test_one_channel_is_told_in_the_singular() -> None:
    conv = IntConv2d(torch.ones(3, 1, 1, 1, dtype=torch.int8), torch.ones(3), torch.ones(3), levels=Levels(0, 1))
    PackNMWeights(TWO_OF_FOUR).apply(GraphModule({"c": conv}, torch.fx.Graph()))
    graph = GraphModule(nn.ModuleDict({"c": conv}), torch.fx.Graph())
    graph.add_module("c", conv)
    PackNMWeights(TWO_OF_FOUR).apply(graph)
    assert conv.why == "1 input channel does not split into groups of 4"


def test_the_groups_of_a_linear_layer_run_over_the_flattened_map() -> None:
    graph = quantised()
    fc = next(m for m in graph.modules() if isinstance(m, IntConv2d) and m.layer == "fc")
    weight = TWO_OF_FOUR.project(fc.weight.flatten(1).float()).to(torch.int8)
    fc.weight = weight.view(fc.weight.shape)
    assert not TWO_OF_FOUR.holds(fc.weight)
    PackNMWeights(TWO_OF_FOUR).apply(graph)
    assert fc.pattern == TWO_OF_FOUR


def test_a_marked_layer_keeps_the_pattern_it_was_trained_in() -> None:
    graph = quantised(marked=Pattern(1, 8), pattern=Pattern(1, 8))
    PackNMWeights(TWO_OF_FOUR).apply(graph)
    assert decisions(graph)["conv2"] == ("1:8", "at most 1 of 8 weights are not zero")


def test_a_denser_pattern_than_asked_for_is_declined() -> None:
    graph = quantised(pattern=Pattern(3, 4))
    PackNMWeights(TWO_OF_FOUR).apply(graph)
    assert decisions(graph)["conv2"] == (None, "up to 3 of 4 weights are not zero: not trained as 2:4")


def test_a_marked_layer_that_lost_its_pattern_is_an_error() -> None:
    graph = quantised(marked=TWO_OF_FOUR, pattern=Pattern(3, 4))
    message = "layer 'conv2' was folded to 2:4 but has up to 3 non-zeros in a group; fold() leaves at most 2, so do not"
    with pytest.raises(PassError, match=re.escape(message)):
        PackNMWeights(TWO_OF_FOUR).apply(graph)


def test_the_meaning_is_the_same() -> None:
    graph, x = quantised(), torch.rand(4, 2, 3, 3)
    expected = run_steps(graph, x, 4)
    PackNMWeights(TWO_OF_FOUR).apply(graph)
    actual = run_steps(graph, x, 4)
    assert torch.equal(actual.output, expected.output)
    assert expected.output.abs().max() > 0


def test_a_second_run_changes_nothing() -> None:
    graph = quantised()
    PackNMWeights(TWO_OF_FOUR).apply(graph)
    before = decisions(graph)
    assert not PackNMWeights(TWO_OF_FOUR).apply(graph)
    assert decisions(graph) == before


def test_weights_that_turn_out_to_be_staggered() -> None:
    for text, found in (("2:4@stagger", "2:4@stagger"), ("2:4", "2:4")):
        graph = quantised(pattern=Pattern.parse(text))
        PackNMWeights(TWO_OF_FOUR).apply(graph)
        assert decisions(graph)["conv2"][0] == found
