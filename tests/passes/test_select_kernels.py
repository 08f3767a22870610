"""The kernel family of each layer, and why."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from conftest import CheckGolden
from step_graphs import StepGraphBuilder
from torch.fx import GraphModule

from spikenm_compile.costs.advice import Advisor
from spikenm_compile.costs.amounts import Amounts, Caches
from spikenm_compile.costs.cpu_costs import CpuCosts
from spikenm_compile.errors import PassError
from spikenm_compile.graph import format_graph, run_steps
from spikenm_compile.layer_calls import layer_call, layer_nodes
from spikenm_compile.ops import SPIKES, Alternative, IntConv2d, Levels
from spikenm_compile.passes.fuse_neuron import FuseNeuron
from spikenm_compile.passes.select_kernels import (
    CUDA_CORE,
    DENSE_ROWS,
    DENSE_TENSOR_CORE,
    EVENT_ROWS,
    LEVEL_ROWS,
    LOOKUP_TABLES,
    ONNX_CONV,
    REASONS,
    REFUSALS,
    SHARED_ROWS,
    SPARSE_TENSOR_CORE,
    SPIKE_ROWS,
    STAGGERED_ROWS,
    SelectKernels,
    choose,
    most_of_four,
)
from spikenm_compile.pattern import Pattern

NATIVE = (STAGGERED_ROWS, SHARED_ROWS, EVENT_ROWS, LOOKUP_TABLES, DENSE_ROWS)
CUDA = (SPARSE_TENSOR_CORE, DENSE_TENSOR_CORE, CUDA_CORE)


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
    (SPIKES, {}, EVENT_ROWS, "silent inputs cost nothing"),
    (Levels(0, 8), {}, EVENT_ROWS, "silent inputs cost nothing"),
    (Levels(0, 9), {}, DENSE_ROWS, "input is 0..9, not spikes or small counts"),
    (Levels(-1, 1), {}, DENSE_ROWS, "input is -1..1, not spikes or small counts"),
    (Levels(0, 255, 0.0625), {}, DENSE_ROWS, "input is 0..255 × 0.0625, not spikes or small counts"),
    (SPIKES, {"groups": 32}, DENSE_ROWS, "32 channel groups: event rows take 16 at most"),
    (Levels(0, 2), {"groups": 2, "dilation": (2, 2)}, EVENT_ROWS, "silent inputs cost nothing"),
    (SPIKES, {"stride": (2, 2), "padding": (1, 1)}, EVENT_ROWS, "silent inputs cost nothing"),
]


@pytest.mark.parametrize(("levels", "geometry", "family", "reason"), CASES)
def test_the_first_family_that_takes_a_layer(levels: Levels, geometry: Any, family: str, reason: str) -> None:
    assert choose(int_conv("conv", 4, levels, **geometry), NATIVE) == (family, reason)


STAGGERED_CASES: list[tuple[str, Any, str, str]] = [
    ("2:4@stagger", {}, STAGGERED_ROWS, "staggered weights: a spike reads one weight row a tap"),
    ("2:4@stagger", {"dilation": (2, 2)}, EVENT_ROWS, "dilation 2: staggered kernels take none"),
    ("2:4@stagger", {"groups": 2}, EVENT_ROWS, "2 channel groups: staggered kernels take one"),
    ("1:3@stagger", {}, EVENT_ROWS, "4 outputs in 3 slabs: staggered kernels take equal slabs, 16 at most"),
    ("1:32@stagger", {}, EVENT_ROWS, "4 outputs in 32 slabs"),
    ("2:4", {}, EVENT_ROWS, "silent inputs cost nothing"),
]


@pytest.mark.parametrize(("pattern", "geometry", "family", "reason"), STAGGERED_CASES)
def test_staggered_weights_have_a_family(pattern: str, geometry: Any, family: str, reason: str) -> None:
    conv = int_conv("conv", 96, **geometry)
    conv.pattern = Pattern.parse(pattern)
    found, why = choose(conv, NATIVE)
    assert (found, why[: len(reason)]) == (family, reason)


SHARED_CASES: list[tuple[str, int, Any, str, str]] = [
    ("64:2:4", 128, {}, SHARED_ROWS, "shared masks: a spike reads a weight row only for outputs that keep it"),
    ("16:1:8", 128, {}, SHARED_ROWS, "shared masks"),
    ("16:2:4", 16, {}, SHARED_ROWS, "shared masks"),
    ("16:2:4", 128, {}, EVENT_ROWS, "64 outputs together use about 94 % of the inputs: lists of shared kernels pay up"),
    ("4:1:8", 128, {}, EVENT_ROWS, "slabs of 4 outputs: shared kernels take 8 or more"),
    ("64:2:4", 128, {"dilation": (2, 2)}, EVENT_ROWS, "dilation 2: shared kernels take none"),
    ("64:2:4", 128, {"groups": 2}, EVENT_ROWS, "2 channel groups: shared kernels take one"),
]


@pytest.mark.parametrize(("pattern", "outputs", "geometry", "family", "reason"), SHARED_CASES)
def test_shared_masks_have_a_family(pattern: str, outputs: int, geometry: Any, family: str, reason: str) -> None:
    weight = torch.ones(outputs, 16 // geometry.get("groups", 1), 3, 3, dtype=torch.int8)
    conv = IntConv2d(weight, torch.ones(outputs), torch.zeros(outputs), levels=SPIKES, **geometry)
    conv.layer, conv.pattern = "conv", Pattern.parse(pattern)
    found, why = choose(conv, NATIVE)
    assert (found, why[: len(reason)]) == (family, reason)


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


def test_lookup_tables_take_what_their_sums_hold() -> None:
    conv, families = int_conv("conv", 4), (LOOKUP_TABLES, DENSE_ROWS)
    assert choose(conv, families)[0] == LOOKUP_TABLES
    conv.linear_input = (4, 3, 3)
    assert choose(conv, families) == (DENSE_ROWS, "a linear layer has one position")
    wide = int_conv("conv", 1328)
    assert choose(wide, families) == (DENSE_ROWS, "2988 lookups for each output: their sums fit words up to 2978")
    wide.pattern = Pattern.parse("1:2@stagger")
    assert choose(wide, families)[0] == LOOKUP_TABLES


def test_every_family_has_its_refusals_and_its_reason() -> None:
    assert REFUSALS.keys() == REASONS.keys() == {*NATIVE, SPIKE_ROWS, LEVEL_ROWS, ONNX_CONV, *CUDA}


GPU_CASES = [
    ((32, 16), 1, True, SPARSE_TENSOR_CORE, "2:4 on tensor cores"),
    (
        (32, 16),
        1,
        False,
        DENSE_TENSOR_CORE,
        "2:4 instructions take at most 2 of 4 consecutive channels, and the weights",
    ),
    ((32, 10), 1, True, SPARSE_TENSOR_CORE, "2:4 on tensor cores"),
    ((32, 3), 1, False, DENSE_TENSOR_CORE, "3 input channels fill no 2:4 instruction"),
    ((32, 1), 1, False, DENSE_TENSOR_CORE, "1 input channel fills no 2:4 instruction"),
    ((64, 64), 2, True, SPARSE_TENSOR_CORE, "2:4 on tensor cores"),
    ((64, 32), 2, True, CUDA_CORE, "2 groups of 16 to 32 channels, not of multiples of 32"),
    ((32, 32), 32, False, CUDA_CORE, "1 input channel fills no 2:4 instruction"),
]


@pytest.mark.parametrize(("shape", "groups", "is_sparse", "family", "reason"), GPU_CASES)
def test_families_of_a_gpu(shape: tuple[int, int], groups: int, is_sparse: bool, family: str, reason: str) -> None:
    outputs, inputs = shape[0], shape[1] // groups
    weight = torch.randint(1, 128, (outputs, inputs, 3, 3), dtype=torch.int8)
    if is_sparse:
        weight[:, torch.arange(inputs) % 4 < 2] = 0
    conv = IntConv2d(weight, torch.ones(outputs), torch.zeros(outputs), levels=SPIKES, groups=groups)
    chosen, why = choose(conv, CUDA)
    assert chosen == family
    assert why.startswith(reason)


def test_most_of_four_counts_channels_of_one_tap() -> None:
    weight = torch.zeros(1, 6, 1, 2, dtype=torch.int8)
    weight[0, :4, 0, 0] = torch.tensor([1, 0, -1, 0])
    weight[0, 4:, 0, 0] = 1
    weight[0, 1, 0, 1] = 1
    assert most_of_four(weight) == 2
    weight[0, 1, 0, 0] = 5
    assert most_of_four(weight) == 3


def test_the_reason_is_added_to_that_of_the_pattern() -> None:
    graph = two_layers()
    SelectKernels(NATIVE).apply(graph)
    convs = [m for m in graph.modules() if isinstance(m, IntConv2d)]
    assert [(c.kernel, c.why) for c in convs] == [
        (DENSE_ROWS, "packed; input is 0..255 × 0.0625, not spikes or small counts"),
        (EVENT_ROWS, "packed; silent inputs cost nothing"),
    ]


COSTS = CpuCosts(128, Caches(2**15, 2**20), Amounts(calls=10_000, sums=1000, looked_up=50, multiplied=0.02))


def test_times_that_are_known_decide() -> None:
    def select(density: float | None) -> list[IntConv2d]:
        graph = two_layers()
        convs = [m for m in graph.modules() if isinstance(m, IntConv2d)]
        for conv in convs:
            conv.density = density
        SelectKernels(NATIVE, Advisor(COSTS)).apply(graph)
        return convs

    first, second = select(0.25)
    assert (first.kernel, first.why) == (DENSE_ROWS, "packed; input is 0..255 × 0.0625, not spikes or small counts")
    assert second.kernel == DENSE_ROWS
    assert second.why == "packed; dense rows: 10 µs predicted at 25 % spikes, lookup tables 17 µs, event rows 46 µs"
    assert all(c.microseconds for c in (first, second))
    assert [c.kernel for c in select(None)] == [DENSE_ROWS, EVENT_ROWS]


def test_a_layer_whose_best_kernel_depends_on_its_spikes_has_two() -> None:
    """14400 multiplications a step take as long as 315 events: 35 % of those that 900 reads of spikes could give."""
    costs = CpuCosts(128, Caches(2**15, 2**20), Amounts(calls=0, copied_events=14400, multiplied=315, looked_up=10**6))

    def select(density: float) -> IntConv2d:
        graph = two_layers()
        _, conv = (m for m in graph.modules() if isinstance(m, IntConv2d))
        conv.density = density
        SelectKernels((EVENT_ROWS, DENSE_ROWS), Advisor(costs)).apply(graph)
        return conv

    few, many, always = select(0.25), select(0.5), select(0.1)
    assert few.alternative is not None
    assert (few.kernel, few.alternative.kernel, few.alternative.is_denser) == (EVENT_ROWS, DENSE_ROWS, True)
    assert few.why.endswith("; dense rows in calls with more than 35.0 % spikes")
    assert many.alternative is not None
    assert (many.kernel, many.alternative.kernel, many.alternative.is_denser) == (DENSE_ROWS, EVENT_ROWS, False)
    assert many.why.endswith("; event rows in calls with at most 35.0 % spikes")
    assert (always.kernel, always.alternative) == (EVENT_ROWS, None)


def test_kernels_whose_states_lie_otherwise_are_never_second_ones() -> None:
    costs = CpuCosts(128, Caches(2**15, 2**20), Amounts(calls=0, copied_events=14400, multiplied=630, looked_up=1))
    graph = two_layers()
    _, conv = (m for m in graph.modules() if isinstance(m, IntConv2d))
    conv.density = 0.4
    SelectKernels((EVENT_ROWS, LOOKUP_TABLES, DENSE_ROWS), Advisor(costs)).apply(graph)
    assert (conv.kernel, conv.alternative) == (LOOKUP_TABLES, None)
    call = layer_call(graph, *list(layer_nodes(graph))[1])
    assert call is not None
    tables = costs.microseconds(call, LOOKUP_TABLES)
    slow = Amounts(
        calls=0, copied_events=14400, multiplied=630, looked_up=1.5 * costs.microseconds(call, EVENT_ROWS) / tables
    )
    for density in (0.4, 0.9):  # event rows, then lookup tables are best
        conv.kernel, conv.density = "", density
        SelectKernels((EVENT_ROWS, LOOKUP_TABLES), Advisor(CpuCosts(128, Caches(2**15, 2**20), slow))).apply(graph)
        assert (conv.kernel, conv.alternative) == (EVENT_ROWS if density == 0.4 else LOOKUP_TABLES, None)
    conv.kernel, conv.density = "", 0.4
    SelectKernels((EVENT_ROWS, DENSE_ROWS), Advisor(costs)).apply(graph)
    assert conv.alternative is not None
    assert conv.alternative == Alternative(DENSE_ROWS, conv.alternative.density, is_denser=True)
    assert conv.alternative.density == pytest.approx(0.7, abs=1e-3)


def test_a_layer_that_no_family_takes_is_an_error() -> None:
    graph = two_layers()
    message = (
        r"layer 'conv1': no kernel family of the target takes it \(input is 0..255 × 0.0625, not spikes or .*\); choose"
    )
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
