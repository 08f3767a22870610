"""Convolutions over one dimension as those of images of one row."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import CheckGolden
from small_networks import lower_graph
from step_graphs import StepGraphBuilder, randomize
from torch import nn
from torch.fx import GraphModule

from spikenm_compile.graph import format_graph, run_steps
from spikenm_compile.ops import IntConv2d
from spikenm_compile.package import write_package
from spikenm_compile.passes.convert_conv1d_to_conv2d import ConvertConv1dToConv2d
from spikenm_compile.pattern import Pattern
from spikenm_compile.targets.native import Native
from spikenm_compile.verification import verify


def over_time(*, per_step: bool = True) -> GraphModule:
    """Every layer that is converted."""
    b = StepGraphBuilder((6, 20), per_step=per_step)
    s = b.neuron("lif1", b.layer("conv1", nn.Conv1d(6, 16, 3, padding=1), b.x))
    s = b.layer("pool", nn.MaxPool1d(2), s)
    s = b.neuron("lif2", b.layer("conv2", nn.Conv1d(16, 24, 5, padding=4, dilation=2, groups=2, bias=False), s))
    pooled = b.layer("last", nn.AdaptiveAvgPool1d(5), b.layer("mean", nn.AvgPool1d(3, 1, 1), s))
    return b.output(b.mean(b.layer("fc", nn.Linear(120, 4), b.layer("flatten", nn.Flatten(), pooled))))


def test_golden(check_golden: CheckGolden) -> None:
    graph = over_time()
    before = format_graph(graph)
    assert ConvertConv1dToConv2d().apply(graph)
    check_golden("convert-conv1d-to-conv2d", f"{before}\n{format_graph(graph)}")


def test_the_meaning_is_the_same_and_a_second_run_changes_nothing() -> None:
    graph, x = over_time(), torch.rand(3, 2, 6, 20)
    randomize(graph, 0)
    with torch.no_grad():
        expected = run_steps(graph, x).output
        assert ConvertConv1dToConv2d().apply(graph)
        torch.testing.assert_close(run_steps(graph, x).output, expected)
    assert not ConvertConv1dToConv2d().apply(graph)


def test_the_pattern_goes_along() -> None:
    graph = over_time()
    graph.get_submodule("conv2").nm_pattern = Pattern(2, 4)  # type: ignore[assignment]
    ConvertConv1dToConv2d().apply(graph)
    assert graph.get_submodule("conv2").nm_pattern == Pattern(2, 4)


@pytest.mark.parametrize("layer", [nn.Linear(20, 20), nn.BatchNorm1d(16), nn.Flatten(2)], ids=str)
def test_other_layers_on_such_values_are_left_alone(layer: nn.Module) -> None:
    b = StepGraphBuilder((6, 20))
    s = b.neuron("lif1", b.layer("conv1", nn.Conv1d(6, 16, 1), b.x))
    graph = b.output(b.mean(b.layer("flatten", nn.Flatten(), b.layer("layer", layer, s))))
    assert not ConvertConv1dToConv2d().apply(graph)
    assert isinstance(graph.get_submodule("conv1"), nn.Conv1d)


@pytest.mark.parametrize("per_step", [False, True])
def test_native_code_runs_them_on_events(tmp_path: Path, per_step: bool) -> None:
    x = torch.rand(*((4,) if per_step else ()), 3, 6, 20, generator=torch.Generator().manual_seed(0))
    graph = lower_graph(over_time(per_step=per_step), x)
    kernels = {m.layer: m.kernel for m in graph.modules() if isinstance(m, IntConv2d)}
    assert kernels["conv2"] == "event-rows"
    write_package(graph, Native(), tmp_path / "a", name="rows", pattern=Pattern(2, 4), samples=x)
    assert all(result.passed and result.compared for result in verify(tmp_path / "a", {"given": x}))
