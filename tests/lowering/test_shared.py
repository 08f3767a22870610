"""Weights with shared masks in native code against the lowered graph, bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_networks import fires, project
from step_graphs import StepGraphBuilder, randomize
from torch import Tensor, nn
from torch.fx import GraphModule

from spikenm_compile.neurons import leaky
from spikenm_compile.ops import IntConv2d
from spikenm_compile.package import write_package
from spikenm_compile.passes.base import run_pipeline
from spikenm_compile.passes.pipelines import lowering
from spikenm_compile.passes.quantize_inputs import choose_levels
from spikenm_compile.passes.select_kernels import SHARED_ROWS
from spikenm_compile.pattern import Pattern
from spikenm_compile.targets.cpu import CPUS, Cpu, cpu_flags, detect
from spikenm_compile.targets.native import Native
from spikenm_compile.verification import verify

RUNNABLE = [cpu for cpu in CPUS if cpu.machine == detect().machine and cpu_flags().issuperset(cpu.features)]


def lower_shared(graph: GraphModule, x: Tensor, pattern: Pattern, steps: int, weight_type: str = "int8") -> GraphModule:
    randomize(graph, 0)
    for module in graph.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            with torch.no_grad():
                module.weight.sub_(0.8 * module.weight.mean())  # so that the last layers do not spike always
    project(graph, pattern)
    graph.meta["num_steps"] = steps
    return run_pipeline(lowering(choose_levels(x), pattern, Native().families, weight_type), graph)


def kernels(graph: GraphModule) -> dict[str, str]:
    return {m.layer: m.kernel for m in graph.modules() if isinstance(m, IntConv2d)}


def check(graph: GraphModule, x: Tensor, out: Path, cpu: Cpu | None = None) -> None:
    write_package(graph, Native(cpu=cpu), out, name="test", pattern=Pattern(2, 4), samples=x)
    for result in verify(out, {"given": x}):
        assert result.passed, result
        assert result.compared > 0


def chain(
    pattern: Pattern, channels: int, outputs: int, size: int, steps: int, weight_type: str
) -> tuple[GraphModule, Tensor]:
    """A stride, a kernel that is not square, a padding that differs from the halo, a tail of outputs, a linear layer."""
    neuron, low = leaky(2.0, v_threshold=0.5), leaky(2.0, v_threshold=0.2)
    b = StepGraphBuilder((2, size, size))
    s = b.neuron("lif1", b.layer("conv1", nn.Conv2d(2, channels, 3, padding=1), b.x), low)
    s = b.neuron("lif2", b.layer("conv2", nn.Conv2d(channels, outputs, (3, 2), (1, 2), padding=1), s), neuron)
    s = b.neuron("lif3", b.layer("conv3", nn.Conv2d(outputs, 2 * pattern.m, 1), s), low)
    flat = b.layer("flatten", nn.Flatten(), s)
    s = b.neuron("lif4", b.layer("fc1", nn.Linear(flat.meta["shape"][0], 40), flat), low)
    x = torch.rand(4, 2, size, size)
    return lower_shared(b.output(b.mean(b.layer("fc2", nn.Linear(40, 9), s))), x, pattern, steps, weight_type), x


CHAINS = [
    ("8:2:4", 72, 80, 5, 3, "int8"),
    ("16:1:8", 96, 144, 4, 4, "int7"),
    ("64:1:16", 144, 192, 4, 3, "int4"),
    ("128:2:4", 136, 160, 3, 4, "int4"),
    ("256:1:4", 64, 320, 3, 2, "int8"),
    ("12:3:7", 70, 42, 4, 3, "int7"),
]


@pytest.mark.parametrize("cpu", RUNNABLE, ids=lambda cpu: cpu.name)
@pytest.mark.parametrize(("pattern", "channels", "outputs", "size", "steps", "weight_type"), CHAINS)
def test_a_chain(
    tmp_path: Path, cpu: Cpu, pattern: str, channels: int, outputs: int, size: int, steps: int, weight_type: str
) -> None:
    graph, x = chain(Pattern.parse(pattern), channels, outputs, size, steps, weight_type)
    assert kernels(graph)["conv2"] == SHARED_ROWS
    assert all(0.002 < rate < 0.95 for rate in fires(graph, x).values()), fires(graph, x)
    check(graph, x, tmp_path / "a", cpu)
