"""Two kernels of one layer: the spikes of a call say which of them runs, and both give the same."""

from __future__ import annotations

import itertools
import operator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from layer_matrix import Case
from small_networks import lower_graph
from step_graphs import StepGraphBuilder
from torch import nn
from torch.fx import GraphModule

from spikenm_compile.graph import Region, run_steps
from spikenm_compile.lowering.alternatives import kernels_of
from spikenm_compile.lowering.layout import Bits
from spikenm_compile.lowering.native import plan
from spikenm_compile.lowering.program import Call, Choice, Program, Space
from spikenm_compile.lowering.share_arena import share_arena
from spikenm_compile.ops import Alternative, IntConv2d
from spikenm_compile.package import write_package
from spikenm_compile.passes.select_kernels import DENSE_ROWS, EVENT_ROWS, STAGGERED_ROWS
from spikenm_compile.pattern import Pattern
from spikenm_compile.targets import get_target
from spikenm_compile.targets.c_library import CLibrary
from spikenm_compile.targets.cpu import cpu_flags, detect
from spikenm_compile.tuning.native_layer import NativeLayer, encode
from spikenm_compile.tuning.one_layer import conv_of, one_layer
from spikenm_compile.verification import verify

CASE = Case(
    EVENT_ROWS,
    "2:4@stagger",
    "int8",
    inputs="spikes",
    neuron="leaky",
    channels=20,
    outputs=48,
    size=(6, 5),
    kernel=(3, 3),
    stride=(1, 1),
    padding=(1, 1),
    dilation=1,
    groups=1,
    is_linear=False,
    num_steps=4,
    tile_width=None,
    density=0.2,
)


def choices(program: Program) -> list[Choice]:
    return [call for call in program.calls[Region.STEP] if isinstance(call, Choice)]


@pytest.mark.parametrize("is_denser", [False, True])
@pytest.mark.parametrize("other", [DENSE_ROWS, STAGGERED_ROWS])
def test_either_kernel_runs_and_gives_the_reference(other: str, is_denser: bool) -> None:
    layer = CASE.layer()
    conv_of(layer).alternative = Alternative(other, 0.25, is_denser)
    lowered = one_layer(layer, (CASE.channels, *CASE.size), CASE.num_steps)
    native = NativeLayer(lowered, detect())
    (choice,) = choices(native.planned.program)
    assert choice.is_many.space is Space.ARENA
    for density, is_many in ((0.05, 0), (0.9, 1), (0.1, 0), (0.25, 0), (1.0, 1)):
        levels = replace(CASE, density=density).levels(1)
        if density == 0.25:  # as many as the threshold allows
            levels = torch.zeros_like(levels)
            levels.flatten()[: levels.numel() // 4] = 1
        native.set_input(native.encode(levels[:, 0].numpy()))
        native()
        expected, layout = run_steps(lowered, levels).output[:, 0], native.planned.output
        assert isinstance(layout, Bits)
        assert native.output() == encode(expected.numpy(), layout).tobytes()
        assert native.arena[choice.is_many.offset] == is_many


def network() -> tuple[GraphModule, torch.Tensor]:
    """Two layers read the same spikes, the first of them by two kernels."""
    b = StepGraphBuilder((3, 6, 6))
    s = b.neuron("lif1", b.layer("conv1", nn.Conv2d(3, 32, 3, padding=1), b.x))
    first = b.neuron("lif2", b.layer("conv2", nn.Conv2d(32, 32, 3, padding=1), s))
    second = b.neuron("lif3", b.layer("conv3", nn.Conv2d(32, 32, 3, padding=1), s))
    flat = b.layer("flatten", nn.Flatten(), b.function(operator.add, first, second))
    x = torch.rand(4, 3, 6, 6) * torch.tensor([0.05, 0.4, 1.0, 2.0])[:, None, None, None]
    lowered = lower_graph(b.output(b.mean(b.layer("fc", nn.Linear(32 * 36, 5), flat))), x)
    return lowered, x


def test_a_network_in_which_another_layer_reads_the_same(tmp_path: Path) -> None:
    """In a C library too, whose layers share memory."""
    lowered, x = network()
    convs = {m.layer: m for m in lowered.modules() if isinstance(m, IntConv2d)}
    densities = [float(s.mean()) for s in run_steps(lowered, x, 4).spikes["lif1"].transpose(0, 1)]
    convs["conv2"].alternative = Alternative(DENSE_ROWS, float(np.median(densities)), is_denser=True)
    libraries = [t for t in map(get_target, ("x86-64-v3", "x86-64-v4")) if isinstance(t, CLibrary)]
    here = [t for t in libraries if cpu_flags().issuperset(t.cpu.features)]
    for target in (get_target("native"), *here[:1]):
        out = tmp_path / target.name
        write_package(lowered, target, out, name="two", pattern=Pattern(2, 4), samples=x)
        for result in verify(out, {"given": x}):
            assert result.passed, result
            assert result.compared > 0


def test_what_the_kernels_share() -> None:
    """The stored weights lie in memory once, and what is used in one branch only is not read outside of it."""
    lowered, _ = network()
    convs = {m.layer: m for m in lowered.modules() if isinstance(m, IntConv2d)}
    convs["conv2"].alternative = Alternative(DENSE_ROWS, 0.3, is_denser=True)
    program = plan(lowered, 32, 4)
    tensors = [part["tensor"] for part in program.packed]
    assert len(set(tensors)) == len(tensors)
    (choice,) = choices(program)
    inside = {place for call in (*choice.few, *choice.many) for place in call.places if place.space is Space.ARENA}
    calls = [call for call in program.calls[Region.STEP] if isinstance(call, Call)]
    outside = {place for call in calls for place in call.places}
    shared = inside & outside
    assert len(shared) == 2  # the spikes that it reads, and those that it writes
    assert [call.function.split("_", 2)[2] for call in choice.few] == ["events", "conv2"]
    assert [call.function.split("_", 2)[2] for call in choice.many] == ["convert", "conv2"]


def test_memory_that_both_branches_need_at_once_lies_apart() -> None:
    lowered, _ = network()
    convs = {m.layer: m for m in lowered.modules() if isinstance(m, IntConv2d)}
    convs["conv2"].alternative = Alternative(DENSE_ROWS, 0.3, is_denser=True)
    program = plan(lowered, 32, 4)
    program.add_frame(4 * 3 * 36)
    shared = share_arena(program, frozenset())
    (choice,) = choices(shared)
    places = {place.offset for place in choice.places if place.space is Space.ARENA}
    sizes = {buffer.offset: buffer.num_bytes for buffer in shared.buffers if buffer.offset in places}
    ends = sorted((offset, offset + size) for offset, size in sizes.items())
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(ends))


def test_a_layer_has_one_kernel_or_two() -> None:
    conv = CASE.conv()
    assert kernels_of(conv) == (conv,)
    conv.alternative = Alternative(DENSE_ROWS, 0.25, is_denser=True)
    first, second = kernels_of(conv)
    assert first is conv
    assert (second.kernel, second.tile_width, second.alternative, conv.kernel) == (DENSE_ROWS, None, None, EVENT_ROWS)
    assert second.weight is conv.weight
