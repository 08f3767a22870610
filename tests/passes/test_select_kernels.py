"""The kernel family of each layer, and why."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from conftest import CheckGolden
from step_graphs import StepGraphBuilder
from torch.fx import GraphModule

from spikenm_compile.errors import PassError
from spikenm_compile.graph import format_graph, run_steps
from spikenm_compile.ops import SPIKES, IntConv2d, Levels
from spikenm_compile.passes.fuse_neuron import FuseNeuron
from spikenm_compile.passes.select_kernels import (
    DENSE_ROWS,
    EVENT_ROWS,
    LEVEL_ROWS,
    ONNX_CONV,
    REASONS,
    REFUSALS,
    SPIKE_ROWS,
    SelectKernels,
    choose,
)

NATIVE = (EVENT_ROWS, DENSE_ROWS)


def int_conv(name: str, inputs: int, levels: Levels = SPIKES, **geometry: Any) -> IntConv2d:
    weight = torch.randint(-127, 128, (4, inputs // geometry.get("groups", 1), 3, 3), dtype=torch.int8)
    conv = IntConv2d(weight, torch.full((4,), 0.004), torch.rand(4), levels=levels, **geometry)
    conv.layer, conv.why = name, "packed"
    return conv


def two_layers() -> GraphModule:
    b = StepGraphBuilder((2, 7, 7), per_step=True)
    s = b.neuron("lif1", b.layer("conv1", int_conv("conv1", 2, Levels(0, 255, 0.0625)), b.x))
    graph = b.output(b.mean(b.neuron("lif2", b.layer("conv2", int_conv("conv2", 4), s))))
    FuseNeuron().apply(graph)
    return graph


def test_golden(check_golden: CheckGolden) -> None:
    graph = two_layers()
    before = format_graph(graph)
    assert SelectKernels(NATIVE).apply(graph)
    check_golden("select-kernels", f"{before}\n{format_graph(graph)}")


CASES = [
    (SPIKES, {}, EVENT_ROWS, "input is spikes: silent ones cost nothing"),
    (Levels(0, 2), {}, DENSE_ROWS, "input is 0..2, not spikes"),
    (Levels(0, 255, 0.0625), {}, DENSE_ROWS, "input is 0..255 × 0.0625, not spikes"),
    (SPIKES, {"groups": 2}, DENSE_ROWS, "2 channel groups"),
    (SPIKES, {"dilation": (2, 2)}, DENSE_ROWS, "dilation 2"),
    (Levels(0, 2), {"groups": 2, "dilation": (2, 2)}, DENSE_ROWS, "input is 0..2, not spikes"),
    (SPIKES, {"stride": (2, 2), "padding": (1, 1)}, EVENT_ROWS, "input is spikes: silent ones cost nothing"),
]


@pytest.mark.parametrize(("levels", "geometry", "family", "reason"), CASES)
def test_the_first_family_that_takes_a_layer(levels: Levels, geometry: Any, family: str, reason: str) -> None:
    assert choose(int_conv("conv", 4, levels, **geometry), NATIVE) == (family, reason)


def test_c_code_reads_spikes_of_any_geometry_off_their_bits() -> None:
    families = (SPIKE_ROWS, LEVEL_ROWS)
    for geometry in ({}, {"groups": 2}, {"dilation": (2, 2)}):
        assert choose(int_conv("conv", 4, SPIKES, **geometry), families)[0] == SPIKE_ROWS
    assert choose(int_conv("conv", 4, Levels(-1, 1)), families) == (LEVEL_ROWS, "input is -1..1, not spikes")


def test_a_family_alone_gives_its_own_reason() -> None:
    conv = int_conv("conv", 4, Levels(0, 2))
    assert choose(conv, (ONNX_CONV,)) == (ONNX_CONV, "ONNX has no sparse convolution")
    assert choose(conv, (DENSE_ROWS,)) == (DENSE_ROWS, "takes any input")
    assert choose(conv, (DENSE_ROWS, EVENT_ROWS))[0] == DENSE_ROWS


def test_every_family_has_its_refusals_and_its_reason() -> None:
    assert REFUSALS.keys() == REASONS.keys() == {EVENT_ROWS, DENSE_ROWS, SPIKE_ROWS, LEVEL_ROWS, ONNX_CONV}


def test_the_reason_is_added_to_that_of_the_pattern() -> None:
    graph = two_layers()
    SelectKernels(NATIVE).apply(graph)
    convs = [m for m in graph.modules() if isinstance(m, IntConv2d)]
    assert [(c.kernel, c.why) for c in convs] == [
        (DENSE_ROWS, "packed; input is 0..255 × 0.0625, not spikes"),
        (EVENT_ROWS, "packed; input is spikes: silent ones cost nothing"),
    ]


def test_a_layer_that_no_family_takes_is_an_error() -> None:
    graph = two_layers()
    message = r"layer 'conv1': no kernel family of the target takes it \(input is 0..255 × 0.0625, not spikes\); choose"
    with pytest.raises(PassError, match=message):
        SelectKernels((EVENT_ROWS,)).apply(graph)


def test_the_meaning_is_the_same_and_a_second_run_changes_nothing() -> None:
    graph, x = two_layers(), torch.randint(0, 3, (4, 2, 2, 7, 7)).float()
    expected = run_steps(graph, x).output
    SelectKernels(NATIVE).apply(graph)
    before = format_graph(graph)
    whys = [m.why for m in graph.modules() if isinstance(m, IntConv2d)]
    assert not SelectKernels(NATIVE).apply(graph)
    assert format_graph(graph) == before
    assert [m.why for m in graph.modules() if isinstance(m, IntConv2d)] == whys
    assert torch.equal(run_steps(graph, x).output, expected)
    assert expected.max() > 0
