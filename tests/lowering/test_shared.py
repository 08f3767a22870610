"""Weights with shared masks in native code against the lowered graph, bit for bit."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from small_networks import fires, project
from step_graphs import StepGraphBuilder, randomize
from torch import nn
from torch.fx import GraphModule

from spikenm_compile.graph import run_steps
from spikenm_compile.lowering.instructions import PORTABLE, Instructions
from spikenm_compile.lowering.layout import Bits
from spikenm_compile.lowering.shared_slabs import SharedSlabs
from spikenm_compile.neurons import leaky
from spikenm_compile.ops import SPIKES, IntConv2d, IntConvNeuron, NeuronStep
from spikenm_compile.package import write_package
from spikenm_compile.passes.base import run_pipeline
from spikenm_compile.passes.pipelines import lowering
from spikenm_compile.passes.quantize_inputs import choose_levels
from spikenm_compile.passes.select_kernels import EVENT_ROWS, SHARED_ROWS
from spikenm_compile.pattern import Pattern
from spikenm_compile.targets.cpu import CPUS, Cpu, cpu_flags, detect
from spikenm_compile.targets.native import Native
from spikenm_compile.tuning.native_layer import NativeLayer, encode
from spikenm_compile.tuning.one_layer import one_layer
from spikenm_compile.verification import verify
from spikenm_compile.weight_types import WEIGHT_TYPES, WeightType

RUNNABLE = [cpu for cpu in CPUS if cpu.machine == detect().machine and cpu_flags().issuperset(cpu.features)]


@dataclass(frozen=True)
class Case:
    """A layer of slabs; a linear one has a kernel as large as its input."""

    pattern: str
    weight_type: WeightType
    channels: int
    outputs: int
    size: tuple[int, int] = (4, 3)
    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (1, 1)
    num_steps: int = 3
    density: float = 0.3
    is_linear: bool = False
    kernel_family: str = SHARED_ROWS

    def conv(self) -> IntConv2d:
        """Random weights that hold the pattern, some of the kept ones zero."""
        generator, pattern = torch.Generator().manual_seed(0), Pattern.parse(self.pattern)
        kernel = self.size if self.is_linear else self.kernel
        largest = WEIGHT_TYPES[self.weight_type]
        shape = (self.outputs, self.channels, *kernel)
        weight = torch.randint(-largest, largest + 1, shape, generator=generator, dtype=torch.int8)
        stored = weight.flatten(1)[:, :, None, None] if self.is_linear else weight
        mask = pattern.magnitude_mask(torch.rand(stored.shape, generator=generator))
        weight = (stored * mask.to(torch.int8)).view(shape)
        active = self.density * pattern.density * weight[0].numel()
        scale = torch.full((self.outputs,), 4.0 / (largest * max(1.0, active) ** 0.5))
        stride, padding = ((1, 1), (0, 0)) if self.is_linear else (self.stride, self.padding)
        bias = 2.0 * (torch.arange(self.outputs) % 8 == 0)  # some spike also where few inputs do
        conv = IntConv2d(weight, scale, bias, levels=SPIKES, stride=stride, padding=padding)
        conv.layer, conv.pattern, conv.kernel = "layer", pattern, self.kernel_family
        conv.linear_input = (self.channels, *self.size) if self.is_linear else None
        return conv


def check_case(case: Case, cpu: Cpu) -> None:
    """Spikes of the compiled layer equal those of the lowered graph."""
    step = NeuronStep(leaky(2.0, v_threshold=1.0, v_reset=0.0))
    step.layer = "neurons"
    lowered = one_layer(IntConvNeuron(case.conv(), step), (case.channels, *case.size), case.num_steps)
    shape = (case.num_steps, 1, case.channels, *case.size)
    x = (torch.rand(shape, generator=torch.Generator().manual_seed(1)) < case.density).float()
    with torch.no_grad():
        expected = run_steps(lowered, x).output[:, 0].numpy()
    layer = NativeLayer(lowered, cpu)
    layer.set_input(layer.encode(x[:, 0].numpy()))
    layer()
    assert 0.002 < expected.mean() < 0.9, expected.mean()
    _, outputs, height, width = expected.shape
    assert layer.output() == encode(expected, Bits(height, width, outputs)).tobytes()


CASES = [
    Case("8:2:4", "int8", 72, 20),
    Case("16:1:8", "int7", 96, 144, stride=(1, 2), kernel=(3, 2), padding=(1, 2), num_steps=4),
    Case("64:1:16", "int4", 144, 192, num_steps=1, density=0.6),
    Case("128:2:4", "int4", 136, 200, density=0.1),
    Case("128:2:4", "int8", 256, 136, size=(2, 2), density=0.9),
    Case("256:1:4", "int8", 64, 320, kernel=(1, 1), padding=(0, 0)),
    Case("12:3:7", "int7", 70, 41),
    Case("64:255:256", "int7", 256, 64, size=(2, 2)),
    Case("64:2:8", "int7", 40, 72, size=(4, 4), is_linear=True),
    Case("8:1:4", "int8", 24, 20, kernel_family=EVENT_ROWS),
]


@pytest.mark.parametrize("cpu", RUNNABLE, ids=lambda cpu: cpu.name)
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.pattern} {case.weight_type} {case.channels}")
def test_spikes_equal_those_of_the_lowered_graph(case: Case, cpu: Cpu) -> None:
    check_case(case, cpu)


@pytest.mark.long
@pytest.mark.parametrize("cpu", RUNNABLE, ids=lambda cpu: cpu.name)
@pytest.mark.parametrize("v", [8, 16, 64, 128, 256])
@pytest.mark.parametrize("plain", ["2:4", "1:4", "1:8", "1:16"])
@pytest.mark.parametrize("weight_type", ["int8", "int7", "int4"])
def test_awkward_shapes(v: int, plain: str, weight_type: WeightType, cpu: Cpu) -> None:
    draw = random.Random(f"{v}:{plain} {weight_type}")
    m = Pattern.parse(plain).m
    kernel, stride = draw.choice(((1, 1), (3, 3), (5, 5), (3, 2))), draw.choice(((1, 1), (2, 2), (1, 3)))
    case = Case(
        f"{v}:{plain}",
        weight_type,
        channels=draw.choice((2 * m, 5 * m, 9 * m, 144)),
        outputs=draw.choice((16, 65, 100, 200, 320)),
        size=draw.choice(((5, 7), (8, 8), (1, 9))),
        kernel=kernel,
        stride=stride,
        padding=draw.choice(((kernel[0] // 2, kernel[1] // 2), (kernel[0], kernel[1]))),
        num_steps=draw.choice((1, 4, 7)),
        density=draw.choice((0.1, 0.3, 0.8)),
    )
    check_case(case, cpu)
    if plain in ("1:4", "1:8"):
        check_case(replace(case, size=(3, 4), channels=4 * m, is_linear=True), cpu)


@pytest.mark.parametrize(
    "tools", [PORTABLE, Instructions(has_pext=True), Instructions(has_pext=True, has_compress=True)]
)
def test_rows_are_those_of_the_fullest_word(tools: Instructions) -> None:
    """Of 2:4 every word of 64 channels keeps 32; slabs of 16 outputs are joined to 64, which keep more."""
    wide = SharedSlabs.of(Case("64:2:4", "int8", 128, 72).conv(), Bits(4, 3, 128, 1), 64, tools)
    assert (wide.slots, wide.joined, wide.run, wide.words, wide.rows.num_rows) == (32, 2, 6, 18, 18 * 32)
    assert (wide.count, wide.rows.outputs, wide.last_rows) == (2, 64, replace(wide.rows, outputs=8))
    joined = SharedSlabs.of(Case("16:1:16", "int8", 128, 64).conv(), Bits(4, 3, 128, 1), 64, tools)
    assert joined.rows.outputs == 64
    assert 8 < joined.slots <= 32
    assert wide.planes == (1 if tools.has_pext else 7)


def kernels(graph: GraphModule) -> dict[str, str]:
    return {m.layer: m.kernel for m in graph.modules() if isinstance(m, IntConv2d)}


def test_a_network(tmp_path: Path) -> None:
    """From the artifact's packed weights; layers that shared kernels do not take go to others."""
    pattern = Pattern.parse("64:2:4")
    b, neuron = StepGraphBuilder((4, 6, 6)), leaky(2.0, v_threshold=0.5)
    s = b.neuron("lif1", b.layer("conv1", nn.Conv2d(4, 24, 3, padding=1), b.x), neuron)
    s = b.neuron("lif2", b.layer("conv2", nn.Conv2d(24, 144, 3, padding=1, stride=2), s), neuron)
    s = b.neuron("lif3", b.layer("dilated", nn.Conv2d(144, 32, 3, padding=2, dilation=2), s), neuron)
    flat = b.layer("flatten", nn.Flatten(), s)
    graph = b.output(b.mean(b.layer("fc", nn.Linear(32 * 9, 10), flat)))
    randomize(graph, 0)
    for module in graph.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            with torch.no_grad():
                module.weight.sub_(0.8 * module.weight.mean())  # so that the last layers do not spike always
    project(graph, pattern)
    graph.meta["num_steps"] = 3
    x = torch.rand(3, 4, 6, 6)
    lowered = run_pipeline(lowering(choose_levels(x), pattern, Native().families), graph)
    found = kernels(lowered)
    assert (found["conv2"], found["fc"]) == (SHARED_ROWS, SHARED_ROWS)
    assert SHARED_ROWS not in (found["conv1"], found["dilated"])
    assert all(0.01 < rate < 0.95 for rate in fires(lowered, x).values()), fires(lowered, x)
    write_package(lowered, Native(), tmp_path / "a", name="test", pattern=pattern, samples=x)
    for result in verify(tmp_path / "a", {"given": x}):
        assert result.passed, result
        assert result.compared > 0


def test_slabs_that_are_too_narrow_go_to_event_rows() -> None:
    b = StepGraphBuilder((8, 4, 4))
    s = b.neuron("lif1", b.layer("conv1", nn.Conv2d(8, 16, 3), b.x))
    graph = b.output(b.neuron("lif2", b.layer("conv2", nn.Conv2d(16, 16, 1), s)))
    randomize(graph, 0)
    project(graph, Pattern.parse("4:1:8"))
    graph.meta["num_steps"] = 2
    x = torch.rand(2, 8, 4, 4)
    lowered = run_pipeline(lowering(choose_levels(x), Pattern.parse("4:1:8"), Native().families), graph)
    assert kernels(lowered)["conv2"] == EVENT_ROWS
