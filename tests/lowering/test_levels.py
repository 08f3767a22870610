"""Layers of counts, of groups and of dilation in native code against the reference, bit for bit."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lowering.lowered_examples import int_conv
from step_graphs import StepGraphBuilder, randomize
from torch import Tensor, nn

from spikenm_compile.graph import run_steps
from spikenm_compile.neurons import leaky
from spikenm_compile.ops import SPIKES, IntConv2d, IntConvNeuron, Levels, NeuronStep
from spikenm_compile.package import write_package
from spikenm_compile.passes.base import run_pipeline
from spikenm_compile.passes.pipelines import lowering
from spikenm_compile.passes.select_kernels import DENSE_ROWS, EVENT_ROWS
from spikenm_compile.pattern import Pattern
from spikenm_compile.targets.cpu import CPUS, Cpu, cpu_flags, detect
from spikenm_compile.targets.native import Native
from spikenm_compile.tuning.native_layer import NativeLayer
from spikenm_compile.tuning.one_layer import one_layer
from spikenm_compile.verification import verify

RUNNABLE = [cpu for cpu in CPUS if cpu.machine == detect().machine and cpu_flags().issuperset(cpu.features)]


@dataclass(frozen=True)
class Case:
    """A layer."""

    weight: tuple[int, int, int, int]
    size: tuple[int, int]
    levels: Levels = SPIKES
    kernel: str = EVENT_ROWS
    num_steps: int = 3
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    def conv(self) -> IntConv2d:
        geometry: dict[str, Any] = {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}
        conv = int_conv(self.weight, 1, levels=self.levels, groups=self.groups, **geometry)
        conv.kernel = self.kernel
        return conv

    @property
    def fused(self) -> bool:
        """Whether neurons can be: groups of outputs must begin at whole bytes of spikes."""
        return self.groups in (1, self.weight[0]) or self.weight[0] // self.groups % 8 == 0

    def inputs(self) -> Tensor:
        """[T, 1, C, H, W]: a third of the values is zero, the others are any level."""
        shape = (self.num_steps, 1, self.groups * self.weight[1], *self.size)
        generator = torch.Generator().manual_seed(0)
        values = torch.randint(self.levels.low, self.levels.high + 1, shape, generator=generator)
        return values.float() * (torch.rand(shape, generator=generator) < 0.67)


def check(case: Case, cpu: Cpu, *, fused: bool) -> None:
    """Bytes that the layer writes are those of the reference's spikes or currents."""
    conv, x = case.conv(), case.inputs()
    step = NeuronStep(leaky(2.0, v_threshold=0.7))
    step.layer = "lif"
    lowered = one_layer(IntConvNeuron(conv, step) if fused else conv, (x.shape[2], *case.size), case.num_steps)
    expected = run_steps(lowered, x).output[:, 0].permute(0, 2, 3, 1).numpy()
    layer = NativeLayer(lowered, cpu)
    layer.set_input(layer.encode(x[:, 0].numpy()))
    layer()
    if not fused:
        assert np.array_equal(np.frombuffer(layer.output(), np.float32).reshape(expected.shape), expected)
        return
    assert 0.02 < expected.mean() < 0.98
    assert np.array_equal(as_spikes(layer.output(), expected.shape), expected)


def as_spikes(memory: bytes, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """[T, H, W, C] of words, 64 channels in each."""
    bits = np.unpackbits(np.frombuffer(memory, np.uint8), bitorder="little").reshape(*shape[:-1], -1)
    assert not bits[..., shape[-1] :].any()
    return bits[..., : shape[-1]]


EVENTS = [
    Case((17, 3, 3, 3), (6, 5), Levels(0, 2), padding=(1, 1)),
    Case((65, 63, 3, 2), (5, 7), Levels(0, 3), stride=(2, 1), padding=(1, 0), num_steps=4),
    Case((24, 65, 1, 1), (4, 4), Levels(0, 8), num_steps=1),
    Case((16, 1, 3, 3), (9, 9), dilation=(2, 3), padding=(2, 3)),
    Case((40, 17, 2, 3), (8, 9), Levels(0, 5), dilation=(3, 2), stride=(2, 2), padding=(1, 2)),
    Case((48, 3, 3, 3), (5, 6), groups=3, padding=(1, 1), num_steps=4),
    Case((64, 17, 3, 1), (7, 4), Levels(0, 2), groups=4, dilation=(2, 1), padding=(1, 0)),
    Case((16, 130, 1, 5), (1, 19), stride=(1, 2), padding=(0, 2)),  # a convolution over one dimension
    Case((32, 600, 3, 3), (3, 3), Levels(0, 8), padding=(1, 1), num_steps=1),  # more events than a list holds
]


U8, S8 = Levels(0, 255, 0.01), Levels(-128, 127, 0.01)
DENSE = [
    Case((64, 3, 3, 3), (6, 5), U8, DENSE_ROWS, padding=(1, 1), num_steps=1),
    Case((17, 1, 3, 3), (6, 5), S8, DENSE_ROWS, padding=(1, 1)),
    Case((65, 63, 3, 2), (5, 7), U8, DENSE_ROWS, stride=(2, 1), num_steps=4),
    Case((40, 17, 2, 3), (8, 9), S8, DENSE_ROWS, dilation=(3, 2), stride=(2, 2), padding=(1, 2)),
    Case((48, 3, 3, 3), (5, 6), U8, DENSE_ROWS, groups=3, padding=(1, 1)),
    Case((24, 65, 3, 3), (4, 4), SPIKES, DENSE_ROWS),
    Case((24, 63, 1, 1), (4, 4), Levels(0, 3), DENSE_ROWS),
    Case((65, 1, 3, 3), (6, 5), SPIKES, DENSE_ROWS, groups=65, padding=(1, 1), num_steps=4),
    Case((130, 1, 2, 3), (9, 9), Levels(0, 2), DENSE_ROWS, groups=130, stride=(1, 2), dilation=(3, 2), padding=(0, 2)),
    Case((17, 1, 3, 3), (7, 4), S8, DENSE_ROWS, groups=17, padding=(1, 1), num_steps=1),
]


def name(case: Case) -> str:
    parts = (case.weight, case.levels, case.groups, case.dilation)
    return "-".join(str(part).replace(" ", "") for part in parts)


@pytest.mark.parametrize("cpu", RUNNABLE, ids=lambda cpu: cpu.name)
@pytest.mark.parametrize("case", [*EVENTS, *DENSE], ids=name)
def test_a_layer(case: Case, cpu: Cpu) -> None:
    check(case, cpu, fused=case.fused)


def test_counts_of_the_input_and_a_residual_of_many(tmp_path: Path) -> None:
    """Bytes to planes, sums of counts of both, and a sum that no longer fits: it is bytes again."""
    b = StepGraphBuilder((70, 5, 4), per_step=True)
    s = b.neuron("lif1", b.layer("conv1", nn.Conv2d(70, 66, 3, padding=1), b.x))
    total = s
    for i in range(2, 5):
        s = b.neuron(f"lif{i}", b.layer(f"conv{i}", nn.Conv2d(66, 66, 1), total))
        total = b.function(operator.add, b.function(operator.add, total, total), s)
    n = b.layer("fc", nn.Linear(66 * 20, 5), b.layer("flatten", nn.Flatten(), total))
    x = torch.randint(0, 6, (3, 4, 70, 5, 4), generator=torch.Generator().manual_seed(0)).float()
    graph = b.output(b.mean(n))
    randomize(graph, 0)
    graph.meta["num_steps"] = 3
    graph = run_pipeline(lowering(Levels(0, 5), Pattern(2, 4), Native().families), graph)
    layers = {m.layer: (m.levels.high, m.kernel) for m in graph.modules() if isinstance(m, IntConv2d)}
    assert layers == {
        "conv1": (5, EVENT_ROWS),
        "conv2": (1, EVENT_ROWS),
        "conv3": (3, EVENT_ROWS),
        "conv4": (7, EVENT_ROWS),
        "fc": (15, DENSE_ROWS),
    }
    write_package(graph, Native(), tmp_path / "a", name="counts", pattern=Pattern(2, 4), samples=x)
    assert all(result.passed and result.compared for result in verify(tmp_path / "a", {"given": x}))
