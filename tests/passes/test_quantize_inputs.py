"""The model's input becomes whole numbers, on a grid found in calibration data."""

from __future__ import annotations

import pytest
import torch
from conftest import CheckGolden
from step_graphs import StepGraphBuilder, randomize
from torch import Tensor, nn
from torch.fx import GraphModule

from spikenm_compile.errors import InputError
from spikenm_compile.graph import LEVELS, REGION, Region, format_graph, run_steps, verify_graph
from spikenm_compile.ops import Levels, QuantizeInput, quantize
from spikenm_compile.passes.convert_linear_to_conv import ConvertLinearToConv
from spikenm_compile.passes.hoist_time_invariant import HoistTimeInvariant
from spikenm_compile.passes.quantize_inputs import QuantizeInputs, choose_levels

SIXTEENTHS = Levels(0, 255, 0.0625)

GRIDS = [
    (torch.arange(17) / 16, Levels(0, 255, 0.0625)),
    (torch.arange(16, 17) / 16, Levels(0, 255, 1.0)),
    (torch.tensor([0.0, 1.0]), Levels(0, 255, 1.0)),
    (torch.tensor([0.0, 255.0]), Levels(0, 255, 1.0)),
    (torch.tensor([0.0, 256.0]), Levels(0, 255, 256 / 255)),
    (torch.tensor([0.0, 0.0]), Levels(0, 255, 1.0)),
    (torch.tensor([-1.0, 2.0]), Levels(-128, 127, 1.0)),
    (torch.tensor([-128.0, 127.0]), Levels(-128, 127, 1.0)),
    (torch.tensor([-128.0, 128.0]), Levels(-128, 127, 128 / 127)),
    (torch.tensor([-129.0, 1.0]), Levels(-128, 127, 129 / 127)),
    (torch.tensor([-0.5, 63.5]), Levels(-128, 127, 0.5)),
    (torch.tensor([-0.5, 64.0]), Levels(-128, 127, 64 / 127)),
    (torch.tensor([2.0**-8]), Levels(0, 255, 2.0**-8)),
    (torch.tensor([2.0**-9]), Levels(0, 255, 2.0**-9 / 255)),
    (torch.tensor([0.1, 0.3]), Levels(0, 255, 0.3 / 255)),
    (torch.tensor([-0.7, 0.3]), Levels(-128, 127, 0.7 / 127)),
]


@pytest.mark.parametrize(("x", "expected"), GRIDS, ids=lambda v: str(v) if isinstance(v, Levels) else "")
def test_levels_of_calibration_data(x: Tensor, expected: Levels) -> None:
    levels = choose_levels(x)
    assert (levels.low, levels.high) == (expected.low, expected.high)
    assert levels.scale == pytest.approx(expected.scale, rel=1e-7)
    assert levels.scale == float(torch.tensor(levels.scale, dtype=torch.float32))


def test_data_on_a_grid_loses_nothing_and_other_data_half_a_level() -> None:
    generator = torch.Generator().manual_seed(5)
    for _ in range(20):
        step = 2.0 ** -int(torch.randint(0, 8, (), generator=generator))
        on_grid = torch.randint(-128, 128, (40,), generator=generator) * step
        levels = choose_levels(on_grid)
        assert torch.equal(quantize(on_grid, levels) * levels.scale, on_grid)
        off_grid = torch.randn(40, generator=generator)
        levels = choose_levels(off_grid)
        error = (quantize(off_grid, levels) * levels.scale - off_grid).abs().max()
        assert error <= levels.scale / 2 * (1 + 1e-5)


def test_calibration_data_may_be_of_any_shape_and_dtype() -> None:
    expected = Levels(0, 255, 1.0)
    assert choose_levels(torch.tensor([[0, 200]], dtype=torch.uint8)) == expected
    assert choose_levels(torch.tensor(3.0)) == expected
    assert choose_levels(torch.ones(2, 3, 4, 5, requires_grad=True)) == expected


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [float("inf")], [0.0, -float("inf")]])
def test_empty_data_and_data_that_is_not_finite_are_errors(values: list[float]) -> None:
    with pytest.raises(InputError, match="calibration data must hold at least one value and only finite ones"):
        choose_levels(torch.tensor(values))


def conv_graph(*, per_step: bool = False) -> GraphModule:
    b = StepGraphBuilder((2, 4, 4), per_step=per_step)
    s = b.neuron("lif1", b.layer("conv1", nn.Conv2d(2, 3, 3), b.x))
    graph = b.output(b.mean(b.layer("conv2", nn.Conv2d(3, 4, 2), s)))
    randomize(graph, 0)
    HoistTimeInvariant().apply(graph)
    return graph


def test_golden(check_golden: CheckGolden) -> None:
    graph = conv_graph()
    before = format_graph(graph)
    assert QuantizeInputs(SIXTEENTHS).apply(graph)
    verify_graph(graph)
    check_golden("quantize-inputs", f"{before}\n{format_graph(graph)}")


@pytest.mark.parametrize("per_step", [False, True])
def test_layers_then_read_levels(per_step: bool) -> None:
    graph = conv_graph(per_step=per_step)
    x = torch.randint(0, 17, (5, 3, 2, 4, 4) if per_step else (3, 2, 4, 4)) / 16
    expected = run_steps(graph, x, None if per_step else 5)
    QuantizeInputs(SIXTEENTHS).apply(graph)
    node = next(n for n in graph.graph.nodes if n.name == "quantize")
    assert node.meta[LEVELS] == SIXTEENTHS
    assert node.meta[REGION] is (Region.STEP if per_step else Region.BEFORE)
    with torch.no_grad():  # the weights take over the scale
        graph.get_submodule("conv1").weight.mul_(SIXTEENTHS.scale)  # type: ignore[operator]
    actual = run_steps(graph, x, None if per_step else 5)
    assert 0 < expected.spikes["lif1"].mean() < 1
    assert torch.equal(actual.spikes["lif1"], expected.spikes["lif1"])
    assert torch.equal(actual.output, expected.output)


def quantisers(graph: GraphModule) -> dict[str, list[str]]:
    """Name of each quantiser's source -> the names of its readers."""
    return {
        n.args[0].name: [u.name for u in n.users]
        for n in graph.graph.nodes
        if n.op == "call_module" and isinstance(graph.get_submodule(n.target), QuantizeInput)
    }


def test_a_vector_is_quantised_behind_its_new_shape() -> None:
    b = StepGraphBuilder((6,))
    graph = b.output(b.neuron("lif1", b.layer("fc1", nn.Linear(6, 5), b.x)))
    ConvertLinearToConv().apply(graph)
    assert QuantizeInputs(SIXTEENTHS).apply(graph)
    verify_graph(graph)
    assert quantisers(graph) == {"unflatten": ["fc1"]}


def test_a_neuron_on_the_raw_input_is_declined() -> None:
    for shape, layer in (((2, 4, 4), nn.Conv2d(2, 3, 3)), ((6,), nn.Linear(6, 5))):
        b = StepGraphBuilder(shape)
        graph = b.output(b.neuron("lif2", b.layer("layer", layer, b.neuron("lif1", b.x))))
        ConvertLinearToConv().apply(graph)
        before = format_graph(graph)
        assert not QuantizeInputs(SIXTEENTHS).apply(graph)
        assert format_graph(graph) == before


@pytest.mark.parametrize("shape", [(3, 4, 4), (6,)])
def test_of_two_readers_only_the_layer_gets_levels(shape: tuple[int, ...]) -> None:
    layer = nn.Conv2d(3, 3, 1) if len(shape) == 3 else nn.Linear(6, 6)
    b = StepGraphBuilder(shape)
    total = b.function(torch.maximum, b.layer("layer", layer, b.x), b.neuron("lif1", b.x))
    graph = b.output(b.neuron("lif2", total))
    ConvertLinearToConv().apply(graph)
    assert QuantizeInputs(SIXTEENTHS).apply(graph)
    assert list(quantisers(graph).values()) == [["layer"]]
    lif1 = next(n for n in graph.graph.nodes if n.name == "lif1")
    assert lif1.args[0].name == ("x" if len(shape) == 3 else "unflatten")


def test_two_layers_share_one_quantiser() -> None:
    b = StepGraphBuilder((3, 4, 4))
    left, right = (b.layer(name, nn.Conv2d(3, 5, 1), b.x) for name in ("left", "right"))
    graph = b.output(b.neuron("lif", b.function(torch.maximum, left, right)))
    QuantizeInputs(SIXTEENTHS).apply(graph)
    assert quantisers(graph) == {"x": ["left", "right"]}


@pytest.mark.parametrize("shape", [(2, 4, 4), (6,), (2, 3)])
def test_a_second_run_changes_nothing(shape: tuple[int, ...]) -> None:
    b = StepGraphBuilder(shape)
    n = b.x if len(shape) == 3 else b.layer("flatten", nn.Flatten(), b.x)
    graph = b.output(b.neuron("lif", b.layer("l", nn.Conv2d(2, 3, 3) if len(shape) == 3 else nn.Linear(6, 5), n)))
    ConvertLinearToConv().apply(graph)
    assert QuantizeInputs(SIXTEENTHS).apply(graph)
    before = format_graph(graph)
    assert not QuantizeInputs(SIXTEENTHS).apply(graph)
    assert format_graph(graph) == before
