"""Rows of weights and places in the arena of C programs."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
import torch
from small_networks import SHAPES, lower_graph
from step_graphs import StepGraphBuilder
from torch import nn

from spikenm_compile.errors import PassError
from spikenm_compile.graph import Region
from spikenm_compile.lowering.c.algebra import number
from spikenm_compile.lowering.c.memory import ALIGNMENT, place_buffers
from spikenm_compile.lowering.c.names import Names
from spikenm_compile.lowering.c.plan import plan_c
from spikenm_compile.lowering.c.program import Buffer, Call, Program
from spikenm_compile.lowering.c.weights import SparseRows, choose_rows, dense_rows, sparse_rows
from spikenm_compile.ops import SPIKES, IntConv2d, Levels


def int_conv(weight: torch.Tensor, levels: Levels = SPIKES, groups: int = 1) -> IntConv2d:
    outputs = weight.shape[0]
    conv = IntConv2d(weight, torch.ones(outputs), torch.zeros(outputs), levels=levels, groups=groups)
    conv.layer = "layer"
    return conv


@pytest.mark.parametrize("groups", [1, 3])
def test_a_row_holds_what_one_input_channel_adds(groups: int) -> None:
    weight = torch.randint(-127, 128, (12, 5, 2, 3), dtype=torch.int8)
    rows = dense_rows(int_conv(weight, groups=groups)).reshape(2, 3, 5 * groups, 12 // groups)
    for channel in range(5 * groups):
        group, inside = divmod(channel, 5)
        outputs = slice(group * (12 // groups), (group + 1) * (12 // groups))
        assert np.array_equal(rows[1, 2, channel], weight[outputs, inside, 1, 2].numpy())


def test_sparse_rows_lose_nothing_but_zeros() -> None:
    rows = np.random.default_rng(0).integers(-3, 4, (40, 13)).astype(np.int8)
    rows[7] = 0
    sparse = sparse_rows(rows)
    is_kept = np.unpackbits(sparse.kept, axis=1, count=13, bitorder="little").astype(bool)
    again = np.zeros_like(rows)
    again[is_kept] = sparse.values
    assert np.array_equal(again, rows)
    assert np.array_equal(sparse.first[1:], np.cumsum(is_kept.sum(1))[:-1])


def test_constants_keep_every_bit() -> None:
    bits = np.random.default_rng(0).integers(0, 2**32, 5000, np.uint32)
    values = bits.view(np.float32)
    for value in [*values[np.isfinite(values)], np.float32(-0.0), np.float32(1e-45), np.float32(3.0)]:
        text = number(float(value))
        assert re.fullmatch(r"-?\d+(\.\d+)?(e[+-]\d+)?f", text)
        assert "." in text or "e" in text
        assert np.float32(text[:-1]).tobytes() == value.tobytes()
    assert number(float("inf")) == "float_of(0x7f800000u)"
    assert number(-float("inf")) == "float_of(0xff800000u)"


def test_names_are_identifiers_and_differ() -> None:
    names = Names(frozenset({"pool"}))
    wanted = ["layer.0", "layer_0", "0", "_x", "pool", "int", "größe"]
    assert [names.new(name) for name in wanted] == ["layer_0", "layer_0_2", "n0", "n_x", "pool_2", "int_2", "gr__e"]


def test_the_smaller_form_is_chosen() -> None:
    weight = torch.randint(1, 128, (32, 8, 3, 3), dtype=torch.int8)
    assert isinstance(choose_rows(int_conv(weight), "auto"), np.ndarray)
    weight[:, ::2] = 0
    weight[::2, 1::2] = 0
    sparse = choose_rows(int_conv(weight), "auto")
    assert isinstance(sparse, SparseRows)
    assert not sparse.is_long
    assert sparse.num_bytes == np.count_nonzero(weight) + 72 * 4 + 72 * 2


def test_a_sum_beyond_int32_is_refused() -> None:
    b = StepGraphBuilder((70000,))
    graph = lower_graph(b.output(b.layer("fc", nn.Linear(70000, 1), b.x)), torch.rand(2, 70000))
    conv = next(m for m in graph.modules() if isinstance(m, IntConv2d))
    conv.weight.fill_(127)
    with pytest.raises(PassError, match=r"layer 'fc' may sum up to \d+; C code sums in int32, up to 2147483647; split"):
        plan_c(graph, "x_")


def result_of(call: Call) -> Buffer | None:
    """The buffer that a call writes, behind its last argument; scratch memory apart."""
    is_result = call.function != "accumulate" and call.buffers and call.buffers[-1].name in call.arguments[-1]
    return call.buffers[-1] if is_result else None


def in_use(program: Program) -> list[tuple[str, set[Buffer]]]:
    """Each call, and the buffers that are needed then or later: by simulation of two steps and two readouts."""
    order = [Region.BEFORE, Region.STEP, Region.STEP, Region.AFTER, Region.AFTER]
    calls = [call for region in order for call in program.calls[region]]
    results = {result_of(call) for call in calls}
    first_step = len(program.calls[Region.BEFORE]) + len(program.calls[Region.STEP])
    written: dict[Buffer | None, int] = {program.frame: -1}
    spans: list[tuple[Buffer, int, int]] = []
    for index, call in enumerate(calls):
        result = result_of(call)
        reads = [b for b in call.buffers if b in results and b is not result]
        # the frame is written anew before each step
        reads += [program.frame] if program.frame and call.reads_input and index < first_step else []
        spans += [(buffer, written[buffer], index) for buffer in reads]
        spans += [(buffer, index, index) for buffer in call.buffers]
        written[result] = index
    return [(call.layer, {b for b, first, last in spans if first <= i <= last}) for i, call in enumerate(calls)]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("per_step", [False, True], ids=["static", "per_step"])
def test_what_is_in_use_at_the_same_time_lies_apart(shape: object, per_step: bool) -> None:
    b = StepGraphBuilder((3, 7, 7), per_step=per_step)
    s = b.neuron("lif1", b.layer("conv1", nn.Conv2d(3, 12, 3, padding=1), b.x))
    n = b.layer("fc", nn.LazyLinear(11), b.layer("flatten", nn.Flatten(), shape(b, s)))  # type: ignore[operator]
    x = torch.randn(4, 9, 3, 7, 7) if per_step else torch.randn(9, 3, 7, 7)
    program = plan_c(lower_graph(b.output(b.mean(n)), x), "x_")
    arena = place_buffers(program)
    assert arena.num_bytes < sum(buffer.num_bytes for buffer in arena.offsets)
    for layer, buffers in in_use(program):
        taken = sorted((arena.offsets[b], arena.offsets[b] + b.num_bytes) for b in buffers)
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(taken)), layer
    assert all(offset % ALIGNMENT == 0 for offset in arena.offsets.values())
    assert max(offset + buffer.num_bytes for buffer, offset in arena.offsets.items()) <= arena.num_bytes
