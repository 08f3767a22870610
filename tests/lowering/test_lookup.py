"""Lookup tables in native code against the lowered graph, bit for bit."""

from __future__ import annotations

import itertools
import operator
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_networks import fires, project
from step_graphs import StepGraphBuilder, randomize
from torch import Tensor, nn
from torch.fx import GraphModule

from spikenm_compile.artifact.code import native_state
from spikenm_compile.artifact.fields import Fields
from spikenm_compile.errors import ArtifactError, PassError
from spikenm_compile.lowering.input_bytes import InputBytes
from spikenm_compile.lowering.layer_rows import never_overflows
from spikenm_compile.lowering.native import plan
from spikenm_compile.neurons import leaky
from spikenm_compile.ops import IntConv2d
from spikenm_compile.package import write_package
from spikenm_compile.passes.base import run_pipeline
from spikenm_compile.passes.pipelines import lowering
from spikenm_compile.passes.quantize_inputs import choose_levels
from spikenm_compile.passes.select_kernels import DENSE_ROWS, LOOKUP_TABLES
from spikenm_compile.pattern import Pattern
from spikenm_compile.runtime.memory import state_values
from spikenm_compile.targets.cpu import ARMV7_NEON, CPUS, EDGE_CPUS, Cpu, cpu_flags, detect
from spikenm_compile.targets.native import Native
from spikenm_compile.verification import verify

RUNNABLE = [cpu for cpu in CPUS if cpu.machine == detect().machine and cpu_flags().issuperset(cpu.features)]


def lower_tables(graph: GraphModule, x: Tensor, pattern: str, num_steps: int, weight_type: str) -> GraphModule:
    """Random weights that hold the pattern, with lookup tables wherever these take a layer."""
    randomize(graph, 0)
    project(graph, Pattern.parse(pattern))
    graph.meta["num_steps"] = num_steps
    passes = lowering(choose_levels(x), Pattern.parse(pattern), (LOOKUP_TABLES, DENSE_ROWS), weight_type)
    return run_pipeline(passes, graph)


def check(graph: GraphModule, x: Tensor, out: Path, cpu: Cpu) -> None:
    assert all(0.002 < rate < 0.98 for rate in fires(graph, x).values()), fires(graph, x)
    compare(graph, x, out, cpu)


def compare(graph: GraphModule, x: Tensor, out: Path, cpu: Cpu) -> None:
    write_package(graph, Native(cpu=cpu), out, name="test", pattern=Pattern(2, 4), samples=x)
    for result in verify(out, {"given": x}):
        assert result.passed, result
        assert result.compared > 0


def kernels(graph: GraphModule) -> list[str]:
    return [m.kernel for m in graph.modules() if isinstance(m, IntConv2d)]


CHAINS = [("1:8@stagger", "int8", 18, 2), ("2:4", "int4", 5, 3), ("1:3@stagger", "int7", 2, 1)]
QUICK = list(zip(itertools.cycle(RUNNABLE), CHAINS, strict=False))
"""Each CPU once, and each chain."""


@pytest.mark.parametrize(
    ("cpu", "chain"),
    [
        pytest.param(cpu, chain, id=f"{cpu.name} {chain[0]}", marks=() if (cpu, chain) in QUICK else pytest.mark.long)
        for cpu, chain in itertools.product(RUNNABLE, CHAINS)
    ],
)
def test_a_chain(tmp_path: Path, cpu: Cpu, chain: tuple[str, str, int, int]) -> None:
    """Strides, dilation, kernels that are not square, images of more than a block, slabs that are no whole bytes."""
    pattern, weight_type, size, steps = chain
    m, neuron = Pattern.parse(pattern).m, leaky(2.0, v_threshold=0.3)
    b = StepGraphBuilder((2, size, size))
    s = b.neuron("lif1", b.layer("conv1", nn.Conv2d(2, 9 * m, 3, padding=1), b.x), neuron)
    s = b.neuron("lif2", b.layer("conv2", nn.Conv2d(9 * m, 5 * m, (3, 2), padding=2, dilation=2), s), neuron)
    s = b.neuron("lif3", b.layer("conv3", nn.Conv2d(5 * m, 3 * m, 3, stride=(1, 2), padding=(1, 2)), s), neuron)
    n = b.layer("fc", nn.LazyLinear(10), b.layer("flatten", nn.Flatten(), s))
    x = torch.rand(2, 2, size, size) + 0.3
    graph = lower_tables(b.output(b.mean(n)), x, pattern, steps, weight_type)
    assert kernels(graph) == [DENSE_ROWS, LOOKUP_TABLES, LOOKUP_TABLES, DENSE_ROWS]
    check(graph, x, tmp_path / "a", cpu)


def test_sums_of_32_bits_and_currents(tmp_path: Path) -> None:
    """Weights whose sums do not fit int16, and a current that two layers make."""
    b, neuron = StepGraphBuilder((2, 4, 4)), leaky(2.0, v_threshold=0.05)
    s = b.neuron("lif1", b.layer("conv1", nn.Conv2d(2, 96, 3, padding=1), b.x), neuron)
    left, right = b.layer("left", nn.Conv2d(96, 12, 3, padding=1), s), b.layer("right", nn.Conv2d(96, 12, 1), s)
    s = b.neuron("lif2", b.function(operator.add, left, right), leaky(2.0, v_threshold=5.0))
    n = b.layer("fc", nn.Linear(192, 10), b.layer("flatten", nn.Flatten(), s))
    x = torch.rand(2, 2, 4, 4) + 0.5
    graph = lower_tables(b.output(b.mean(n)), x, "2:4", 3, "int8")
    wide = next(m for m in graph.modules() if isinstance(m, IntConv2d) and m.layer == "left")
    with torch.no_grad():
        wide.weight.copy_(wide.weight.sign() * 127)
    assert not never_overflows(wide)
    check(graph, x, tmp_path / "a", RUNNABLE[0])


@pytest.mark.parametrize(("pattern", "channels"), [("2:4", 36), ("1:8", 64), ("1:3", 27), ("1:16", 48), ("5:15", 45)])
def test_every_input_of_a_class_has_a_bit(pattern: str, channels: int) -> None:
    p = Pattern.parse(f"{pattern}@stagger")
    slabs = p.m // p.n
    inputs, found = InputBytes(channels, p.m, slabs), set()
    for unit in inputs.units():
        for repeat, (number, made) in itertools.product(range(unit.repeats), enumerate(unit.bytes)):
            assert len(made) == unit.class_bytes
            for byte in made:
                bits = {
                    (8 * t.source + (bit - t.rotation) % 8, bit)
                    for t in byte.terms
                    for bit in range(8)
                    if t.mask >> bit & 1
                }
                assert bits == {(c, bit) for bit, c in enumerate(byte.channels) if c >= 0}
                found |= {(unit.first_channel + repeat * unit.size + c, number) for c, _ in bits}
    assert found == {(c, inputs.class_of(c)) for c in range(channels)}
    mask = p.mask_of((slabs, channels, 1, 2))
    assert all(
        mask[s, c, 0, t] == (inputs.class_of(c) == (s + t) % slabs)
        for s in range(slabs)
        for c in range(channels)
        for t in range(2)
    )


def test_a_target_without_the_instruction_says_so(lowered: GraphModule) -> None:
    conv = next(m for m in lowered.modules() if isinstance(m, IntConv2d) and m.layer == "conv2")
    conv.kernel = LOOKUP_TABLES
    with pytest.raises(PassError, match="layer 'conv2' was given lookup tables, and the target has no instruction"):
        plan(lowered, 16, 3)


def test_every_cpu_has_the_instruction() -> None:
    shuffles = {cpu.name: cpu.shuffle for cpu in (*CPUS, *EDGE_CPUS)}
    assert all(shuffles.values())
    assert replace(ARMV7_NEON, shuffle=None).instructions.shuffle is None


CHANNELS = (1, 3, 8, 16, 17, 48, 63, 64, 65, 96, 100, 144)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(24))
def test_awkward_shapes(tmp_path: Path, seed: int) -> None:
    """Patterns, types of weights, channels, sizes, strides, paddings, dilations and numbers of steps at random."""
    draw = random.Random(seed)
    pattern = draw.choice(("2:4", "1:8", "2:4@stagger", "1:4@stagger", "1:8@stagger", "1:3@stagger", "1:16@stagger"))
    size, steps = draw.choice((1, 2, 5, 8, 13, 17, 33)), draw.choice((1, 3, 4, 7))
    b = StepGraphBuilder((2, size, size))
    s, channels = b.x, [2, *draw.choices(CHANNELS, k=3)]
    for i, (inputs, outputs) in enumerate(itertools.pairwise(channels)):
        kernel, stride, dilation = draw.choice((1, 3, 3, 5)), draw.choice((1, 1, 2, 3)), draw.choice((1, 1, 1, 2))
        padding = draw.choice((kernel // 2 * dilation, kernel * dilation - 1))
        conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation)
        s = b.neuron(f"lif{i}", b.layer(f"conv{i}", conv, s), leaky(2.0, v_threshold=0.3))
    n = b.layer("fc", nn.LazyLinear(8), b.layer("flatten", nn.Flatten(), s))
    x, weight_type = torch.rand(2, 2, size, size), draw.choice(("int8", "int7", "int4", "auto"))
    graph = lower_tables(b.output(b.mean(n)), x, pattern, steps, weight_type)
    compare(graph, x, tmp_path / "a", draw.choice(RUNNABLE))


def test_the_order_of_a_state_is_read_or_refused() -> None:
    entry = {"name": "v", "offset": 0, "shape": [2, 2, 3], "init": 0.0}
    memory = np.arange(12, dtype="<f4").view(np.uint8)[None]
    planes = native_state(Fields(entry | {"order": "planes"}, "m"))
    values = state_values(memory, (planes,))["v"]
    assert values.shape == (1, 2, 2, 3)
    assert np.array_equal(values[0, 0, 1], [1, 5, 9])
    assert np.array_equal(state_values(memory, (native_state(Fields(entry, "m")),))["v"][0, 0, 1], [3, 4, 5])
    with pytest.raises(ArtifactError, match="order"):
        native_state(Fields(entry | {"order": "rows"}, "m"))
