"""Weights become int8 with a scale per output channel."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from conftest import CheckGolden
from step_graphs import StepGraphBuilder, randomize
from torch import nn
from torch.fx import GraphModule

from spikenm_compile.errors import InputError, PassError
from spikenm_compile.graph import LAYER, LEVELS, REGION, SHAPE, Region, format_graph, run_steps, verify_graph
from spikenm_compile.ops import SPIKES, IntConv2d, Levels
from spikenm_compile.passes.annotate_levels import AnnotateLevels
from spikenm_compile.passes.convert_linear_to_conv import ConvertLinearToConv
from spikenm_compile.passes.quantize_inputs import QuantizeInputs
from spikenm_compile.passes.quantize_weights import QuantizeWeights, quantize_conv
from spikenm_compile.pattern import Pattern
from spikenm_compile.weight_types import WEIGHT_TYPES, quantize_weight

SIXTEENTHS = Levels(0, 255, 0.0625)


def ready(b: StepGraphBuilder, graph: GraphModule) -> GraphModule:
    """The graph as this pass finds it."""
    randomize(graph, 0)
    ConvertLinearToConv().apply(graph)
    QuantizeInputs(SIXTEENTHS).apply(graph)
    AnnotateLevels().apply(graph)
    return graph


def two_layers() -> GraphModule:
    b = StepGraphBuilder((2, 4, 4))
    s = b.neuron("lif1", b.layer("conv1", nn.Conv2d(2, 4, 3, stride=2, padding=1), b.x))
    n = b.layer("flatten", nn.Flatten(), s)
    return ready(b, b.output(b.mean(b.layer("fc", nn.Linear(16, 3, bias=False), n))))


def test_golden(check_golden: CheckGolden) -> None:
    graph = two_layers()
    before = format_graph(graph)
    assert QuantizeWeights().apply(graph)
    verify_graph(graph)
    check_golden("quantize-weights", f"{before}\n{format_graph(graph)}")


def test_a_weight_is_its_scale_times_a_whole_number_within_half_a_scale() -> None:
    generator = torch.Generator().manual_seed(2)
    for shape in ((1, 1, 1, 1), (5, 3, 3, 3), (8, 16, 1, 1), (3, 1, 2, 5)):
        weight = torch.randn(shape, generator=generator) * torch.rand(shape[0], 1, 1, 1, generator=generator) * 5
        q, scale = quantize_weight(weight)
        assert q.dtype is torch.int8
        assert q.abs().flatten(1).amax(1).eq(WEIGHT_TYPES["int8"]).all()
        error = (q.double() * scale.view(-1, 1, 1, 1) - weight.double()).abs()
        assert (error <= scale.view(-1, 1, 1, 1) * 0.5 * (1 + 1e-12)).all()


def test_a_channel_of_zeros_gets_scale_one() -> None:
    weight = torch.randn(3, 2, 1, 1)
    weight[1] = 0.0
    q, scale = quantize_weight(weight)
    assert q[1].tolist() == [[[0]], [[0]]]
    assert scale[1] == 1.0
    assert scale[0] != 1.0


@pytest.mark.parametrize("text", ["2:4", "1:8", "3:7"])
def test_zeros_stay_zero_and_with_them_the_pattern(text: str) -> None:
    pattern = Pattern.parse(text)
    weight = pattern.project(torch.randn(6, 2 * pattern.m, 3, 3))
    q, _ = quantize_weight(weight)
    assert not q[weight == 0].any()
    assert pattern.holds(q)


@pytest.mark.parametrize("levels", [SPIKES, Levels(0, 3), SIXTEENTHS, Levels(-128, 127, 0.013)], ids=str)
@pytest.mark.parametrize(
    "geometry",
    [{}, {"stride": 2, "padding": (1, 0)}, {"groups": 2}, {"dilation": (1, 2), "bias": False}],
    ids=lambda g: ",".join(g) or "plain",
)
def test_the_current_is_within_half_a_scale_for_each_unit_of_input(levels: Levels, geometry: dict[str, Any]) -> None:
    conv = nn.Conv2d(4, 6, 3, **geometry)
    new = quantize_conv(conv, levels, "conv")
    q = torch.randint(levels.low, levels.high + 1, (3, 4, 7, 7))
    x = q.double() * levels.scale
    with torch.no_grad():
        error = (new(q.float()).double() - conv.double()(x)).abs()
    ones = nn.Conv2d(4, 6, 3, **{**geometry, "bias": False}).double()
    nn.init.ones_(ones.weight)
    _, scale = quantize_weight(conv.weight)
    bound = ones(x.abs()).detach() * scale.view(-1, 1, 1) * 0.5
    assert (error <= bound * (1 + 1e-4) + 1e-5).all()
    assert error.max() > bound.max() * 1e-3


def test_what_the_layer_is_goes_along() -> None:
    conv: Any = nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2)
    conv.nm_pattern, conv.linear_input = Pattern(1, 2), (4, 3, 2)
    new = quantize_conv(conv, SIXTEENTHS, "features.3")
    assert (new.stride, new.padding, new.dilation, new.groups) == ((2, 1), (1, 0), (1, 2), 2)
    assert (new.layer, new.levels) == ("features.3", SIXTEENTHS)
    assert (new.pattern, new.linear_input) == (Pattern(1, 2), (4, 3, 2))
    assert torch.equal(new.bias, conv.bias.detach())
    assert new.bias.data_ptr() != conv.bias.data_ptr()
    _, scale = quantize_weight(conv.weight)
    assert torch.equal(new.scale, (scale * 0.0625).float())


def test_a_layer_without_bias_gets_zeros() -> None:
    assert quantize_conv(nn.Conv2d(2, 3, 1, bias=False), SPIKES, "c").bias.tolist() == [0.0, 0.0, 0.0]


def test_the_user_s_module_is_left_alone() -> None:
    graph = two_layers()
    conv = graph.get_submodule("conv1")
    weight = conv.weight.clone()  # type: ignore[operator]
    QuantizeWeights().apply(graph)
    assert torch.equal(conv.weight, weight)  # type: ignore[arg-type]
    assert isinstance(graph.get_submodule("conv1"), IntConv2d)
    output = run_steps(graph, torch.rand(2, 2, 4, 4), 4).output
    assert output.shape == (2, 3)


@pytest.mark.parametrize(
    "conv",
    [nn.Conv2d(2, 3, 3, padding="same"), nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular")],
    ids=["same", "circular"],
)
def test_other_padding_than_numbers_of_zeros_is_an_error(conv: nn.Conv2d) -> None:
    with pytest.raises(PassError, match=r"layer 'c1' pads with .* \((zeros|circular)\); zero padding given as numbers"):
        quantize_conv(conv, SPIKES, "c1")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("parameter", ["weight", "bias"])
def test_weights_that_are_not_finite_are_an_error(parameter: str, value: float) -> None:
    conv = nn.Conv2d(2, 3, 3)
    with torch.no_grad():
        getattr(conv, parameter)[0] = value
    with pytest.raises(PassError, match="layer 'c1' has weights that are not finite"):
        quantize_conv(conv, SPIKES, "c1")


def test_a_layer_that_reads_real_values_is_an_error() -> None:
    b = StepGraphBuilder((2, 4, 4))
    s = b.neuron("lif1", b.layer("conv1", nn.Conv2d(2, 4, 3), b.x))
    n = b.layer("conv2", nn.Conv2d(4, 3, 1), b.layer("pool", nn.AvgPool2d(2), s))
    graph = ready(b, b.output(b.neuron("lif2", n)))
    with pytest.raises(PassError, match=r"layer 'conv2' reads real values from 'pool'; int8 layers read .* put"):
        QuantizeWeights().apply(graph)


def test_a_layer_that_is_called_twice_is_an_error() -> None:
    b = StepGraphBuilder((2, 4, 4))
    first = b.layer("conv1", nn.Conv2d(2, 2, 3, padding=1), b.x)
    s = b.neuron("lif1", first)
    again = b.graph.call_module("conv1", (s,))
    again.meta = {REGION: Region.STEP, SHAPE: first.meta[SHAPE], LAYER: "conv1"}
    graph = ready(b, b.output(b.neuron("lif2", again)))
    with pytest.raises(PassError, match="layer 'conv1' is called 2 times in one time step; a layer may be called once"):
        QuantizeWeights().apply(graph)


def test_a_graph_without_convolutions_is_declined_and_a_second_run_changes_nothing() -> None:
    b = StepGraphBuilder((3,))
    assert not QuantizeWeights().apply(b.output(b.neuron("lif", b.x)))
    graph = two_layers()
    QuantizeWeights().apply(graph)
    before = format_graph(graph)
    assert not QuantizeWeights().apply(graph)
    assert format_graph(graph) == before
    assert [str(n.meta[LEVELS]) for n in graph.graph.nodes if LEVELS in n.meta] == ["0..255 × 0.0625", "spikes"]


@pytest.mark.parametrize(("weight_type", "largest"), [("int8", 127), ("int7", 63), ("int4", 7)])
def test_smaller_types_take_the_scale_of_least_error(weight_type: str, largest: int) -> None:
    weight = torch.randn(6, 16, 3, 3, generator=torch.Generator().manual_seed(3))
    weight[0], weight[1, 3] = 0.0, 0.0
    q, scale = quantize_weight(weight, weight_type)
    assert q.abs().max() == largest
    assert q[weight == 0].eq(0).all()
    assert scale[0] == 1.0
    found = (q.double() * scale.view(-1, 1, 1, 1) - weight).square().sum((1, 2, 3))
    plain = weight.abs().amax((1, 2, 3), keepdim=True).double().clamp(min=1e-9) / largest
    error = (torch.round(weight / plain) * plain - weight).square().sum((1, 2, 3))
    assert (found <= error * (1 + 1e-9)).all()
    assert weight_type != "int4" or found.sum() < 0.9 * error.sum()


def test_auto_takes_the_smallest_type_that_is_close() -> None:
    whole = torch.randint(-7, 8, (4, 8, 3, 3), generator=torch.Generator().manual_seed(0)).float()
    whole[:, 0, 0, 0] = 7.0
    normal = torch.randn(4, 8, 3, 3, generator=torch.Generator().manual_seed(1))
    outliers = normal.clone()
    outliers[:, 0, 0, 0] = 40.0
    largest = [int(quantize_weight(w, "auto")[0].abs().max()) for w in (whole, normal, outliers)]
    assert largest == [7, 63, 127]


def test_layers_that_do_not_read_spikes_keep_int8() -> None:
    graph = two_layers()
    QuantizeWeights("int4").apply(graph)
    convs = {m.layer: int(m.weight.abs().max()) for m in graph.modules() if isinstance(m, IntConv2d)}
    assert convs == {"conv1": 127, "fc": 7}


def test_an_unknown_type_of_weights() -> None:
    with pytest.raises(
        InputError, match=r"weights of type 'int5' are unknown; known are int8, int7, int4, auto; choose"
    ):
        QuantizeWeights("int5")
