"""Staggered weights in native code against the lowered graph, bit for bit."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest
import torch
from small_networks import fires, project
from step_graphs import StepGraphBuilder, randomize
from torch import Tensor, nn
from torch.fx import GraphModule

from spikenm_compile.lowering.stagger import Stagger
from spikenm_compile.neurons import leaky
from spikenm_compile.ops import IntConv2d
from spikenm_compile.package import write_package
from spikenm_compile.passes.base import run_pipeline
from spikenm_compile.passes.pipelines import lowering
from spikenm_compile.passes.quantize_inputs import choose_levels
from spikenm_compile.passes.select_kernels import EVENT_ROWS, STAGGERED_ROWS
from spikenm_compile.pattern import Pattern
from spikenm_compile.targets.cpu import CPUS, Cpu, cpu_flags, detect
from spikenm_compile.targets.native import Native
from spikenm_compile.verification import verify

RUNNABLE = [cpu for cpu in CPUS if cpu.machine == detect().machine and cpu_flags().issuperset(cpu.features)]


def lower_staggered(
    graph: GraphModule, x: Tensor, pattern: Pattern, num_steps: int, weight_type: str = "int8"
) -> GraphModule:
    randomize(graph, 0)
    project(graph, pattern)
    graph.meta["num_steps"] = num_steps
    return run_pipeline(lowering(choose_levels(x), pattern, Native().families, weight_type), graph)


def kernels(graph: GraphModule) -> dict[str, str]:
    return {m.layer: m.kernel for m in graph.modules() if isinstance(m, IntConv2d)}


def check(graph: GraphModule, x: Tensor, out: Path, cpu: Cpu | None = None) -> None:
    write_package(graph, Native(cpu=cpu), out, name="test", pattern=Pattern(2, 4), samples=x)
    for result in verify(out, {"given": x}):
        assert result.passed, result
        assert result.compared > 0


def chain(pattern: Pattern, size: int, steps: int, v_threshold: float) -> tuple[GraphModule, Tensor]:
    """Strides, kernels that are not square, paddings that differ from the halo, slabs that are no whole bytes."""
    m, k, neuron = pattern.m, pattern.m // pattern.n, leaky(2.0, v_threshold=v_threshold)
    b = StepGraphBuilder((3, size, size))
    s = b.neuron("lif1", b.layer("conv1", nn.Conv2d(3, 3 * m, 3, padding=1), b.x), neuron)
    s = b.neuron("lif2", b.layer("conv2", nn.Conv2d(3 * m, 24 * m, (3, 2), stride=(1, 2), padding=1), s), neuron)
    s = b.neuron("lif3", b.layer("conv3", nn.Conv2d(24 * m, 3 * m, 1), s), neuron)
    flat = b.layer("flatten", nn.Flatten(), s)
    s = b.neuron("lif4", b.layer("fc1", nn.Linear(flat.meta["shape"][0], 8 * k), flat), neuron)
    x = torch.rand(4, 3, size, size)
    return lower_staggered(b.output(b.mean(b.layer("fc2", nn.Linear(8 * k, 3 * k), s))), x, pattern, steps), x


@pytest.mark.parametrize("cpu", RUNNABLE, ids=lambda cpu: cpu.name)
@pytest.mark.parametrize(
    ("pattern", "size", "steps", "v_threshold"), [("2:4", 7, 3, 0.5), ("1:3", 2, 4, 0.2), ("1:8", 5, 1, 0.2)]
)
def test_a_chain(tmp_path: Path, cpu: Cpu, pattern: str, size: int, steps: int, v_threshold: float) -> None:
    graph, x = chain(Pattern.parse(f"{pattern}@stagger"), size, steps, v_threshold)
    assert set(itertools.islice(kernels(graph).values(), 1, 4)) == {STAGGERED_ROWS}
    assert all(0.002 < rate < 0.95 for rate in fires(graph, x).values()), fires(graph, x)
    check(graph, x, tmp_path / "a", cpu)


def test_staggered_weights_that_the_kernels_do_not_take(tmp_path: Path) -> None:
    """Counts for an input, dilation, groups, and slabs of unequal size: by the kernels for any weights."""
    pattern = Pattern.parse("1:4@stagger")
    b = StepGraphBuilder((4, 6, 6))
    s = b.neuron("lif1", b.layer("conv1", nn.Conv2d(4, 24, 3, padding=1), b.x))
    s = b.neuron("lif2", b.layer("dilated", nn.Conv2d(24, 32, 3, padding=2, dilation=2), s))
    s = b.neuron("lif3", b.layer("grouped", nn.Conv2d(32, 16, 3, padding=1, groups=4), s))
    s = b.neuron("lif4", b.layer("unequal", nn.Conv2d(16, 18, 3), s))
    n = b.layer("fc", nn.Linear(18 * 16, 10), b.layer("flatten", nn.Flatten(), s))
    x = torch.rand(4, 4, 6, 6)
    graph = lower_staggered(b.output(b.mean(n)), x, pattern, 4)
    assert kernels(graph) == {
        "conv1": "dense-rows",
        "dilated": EVENT_ROWS,
        "grouped": EVENT_ROWS,
        "unequal": EVENT_ROWS,
        "fc": EVENT_ROWS,
    }
    assert {m.pattern for m in graph.modules() if isinstance(m, IntConv2d)} == {pattern}
    check(graph, x, tmp_path / "a")


@pytest.mark.parametrize(("pattern", "classes"), [("2:4", 2), ("1:4", 4), ("1:4", 2), ("2:6", 3), ("1:6", 3)])
@pytest.mark.parametrize("stride", [1, 2])
def test_classes_and_ranks_name_the_kept_weights(pattern: str, classes: int, stride: int) -> None:
    """An input's class is that of the set of the slab that keeps it at the tap; each rank is of one input."""
    p = Pattern.parse(f"{pattern}@stagger")
    slabs, channels, kernel = p.m // p.n, 2 * p.m, (3, 2)
    mask = p.mask_of((slabs, channels, *kernel))
    stagger = Stagger(p.m, slabs, classes, kernel[1])
    for oy, ox, ky, kx in itertools.product(range(2), range(3), range(3), range(2)):
        y, x, rows = oy * stride + 1, ox * stride + 2, set()
        for c in range(channels):
            (slab,) = (s for s in range(slabs) if mask[s, c, ky, kx])
            found = int(stagger.class_of(y + ky, x + kx, c))
            assert found == stagger.class_for(slab % classes, y, x)
            rows.add((found, int(stagger.rank(c))))
        assert rows == set(itertools.product(range(classes), range(channels // classes)))


@pytest.mark.parametrize("cpu", RUNNABLE[:2], ids=lambda cpu: cpu.name)
@pytest.mark.parametrize("weight_type", ["int7", "int4"])
@pytest.mark.parametrize("pattern", ["2:4", "2:4@stagger"])
def test_small_weights(tmp_path: Path, pattern: str, weight_type: str, cpu: Cpu) -> None:
    """Rows of 7 and 4 bits, with lists longer than the gathered ones and tiles that are not full."""
    b, neuron = StepGraphBuilder((2, 4, 4)), leaky(2.0, v_threshold=0.1)
    s = b.neuron("lif1", b.layer("conv1", nn.Conv2d(2, 48, 3, padding=1), b.x), neuron)
    s = b.neuron("lif2", b.layer("conv2", nn.Conv2d(48, 144, 3, padding=1), s), leaky(2.0, v_threshold=1.0))
    n = b.layer("fc", nn.Linear(144 * 16, 10), b.layer("flatten", nn.Flatten(), s))
    x = torch.rand(3, 2, 4, 4) + 0.5
    graph = lower_staggered(b.output(b.mean(n)), x, Pattern.parse(pattern), 3, weight_type)
    largest = {m.layer: int(m.weight.abs().max()) for m in graph.modules() if isinstance(m, IntConv2d)}
    assert largest == {"conv1": 127} | dict.fromkeys(("conv2", "fc"), {"int7": 63, "int4": 7}[weight_type])
    rates = fires(graph, x)
    assert rates["lif1"] > 0.6
    assert 0.003 < rates["lif2"] < 0.95
    check(graph, x, tmp_path / "a", cpu)


CHANNELS = (1, 3, 8, 16, 17, 48, 63, 64, 65, 96, 100, 144)


@pytest.mark.long
@pytest.mark.parametrize("cpu", RUNNABLE[:2], ids=lambda cpu: cpu.name)
@pytest.mark.parametrize("seed", range(24))
def test_awkward_shapes(tmp_path: Path, seed: int, cpu: Cpu) -> None:
    """Patterns, types of weights, channels, sizes, strides, paddings, dilations and numbers of steps at random."""
    draw = random.Random(seed)
    pattern = Pattern.parse(draw.choice(("2:4", "1:8", "2:4@stagger", "1:4@stagger", "1:8@stagger", "1:3@stagger")))
    size, steps = draw.choice((1, 2, 5, 8, 13, 33)), draw.choice((1, 3, 4, 7, 16))
    b = StepGraphBuilder((2, size, size))
    channels = [2, *draw.choices(CHANNELS, k=3)]
    s = b.x
    for i, (inputs, outputs) in enumerate(itertools.pairwise(channels)):
        kernel, stride, dilation = draw.choice((1, 3, 3, 5)), draw.choice((1, 1, 2, 3)), draw.choice((1, 1, 1, 2))
        padding = draw.choice((kernel // 2 * dilation, kernel * dilation - 1))
        conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation)
        s = b.neuron(f"lif{i}", b.layer(f"conv{i}", conv, s), leaky(2.0, v_threshold=0.3))
    n = b.layer("fc", nn.LazyLinear(draw.choice((8, 10, 65))), b.layer("flatten", nn.Flatten(), s))
    x = torch.rand(3, 2, size, size)
    weight_type = draw.choice(("int8", "int7", "int4", "auto"))
    check(lower_staggered(b.output(b.mean(n)), x, pattern, steps, weight_type), x, tmp_path / "a", cpu)
