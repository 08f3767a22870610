"""Convolution kernels on the emulator equal the operations of the lowered graph, at awkward sizes."""

from __future__ import annotations

import random

import neuron_kinds
import pytest
from lowering.cuda.conv_cases import LEAKY, Case, arrays, assert_equal, expected, operands
from lowering.cuda.emulator import LATE, Schedule, launch, needs_compiler

from spikenm_compile.levels import SPIKES, Levels
from spikenm_compile.lowering.cuda.build import build_kernel
from spikenm_compile.lowering.cuda.choose_tiling import choose_tiling
from spikenm_compile.lowering.cuda.generated import Gpu

pytestmark = needs_compiler

SMALL = Gpu(multiprocessors=1)
"""Takes the largest tile; with more multiprocessors, small batches get smaller tiles."""


def check(case: Case, gpu: Gpu = SMALL, schedule: Schedule = LATE) -> None:
    kernel = build_kernel(case.spec, gpu, case.batch)
    given = operands(case)
    assert_equal(case, given, launch(kernel, arrays(case, given, kernel), case.batch, schedule))


COUNTS, SIGNED = Levels(0, 255), Levels(-128, 127)
TERNARY = neuron_kinds.ternary(65)

CASES = {
    "one unit, odd channels": Case(3, 17, (9, 7)),
    "paired units": Case(64, 64, steps=2),
    "odd units": Case(65, 100, (4, 6), steps=3),
    "many chunks": Case(320, 33, (3, 3), (5, 5), padding=2, steps=4),
    "one by one, one pixel": Case(100, 10, (1, 1), (1, 1), padding=0, steps=7, batch=9),
    "stride and dilation": Case(64, 65, (33, 9), stride=2, padding=2, dilation=2, steps=2, batch=1),
    "large kernel": Case(17, 32, (8, 8), (7, 7), padding=3, steps=8),
    "kernel as large as the input": Case(32, 11, (4, 3), (4, 3), padding=0, steps=4, batch=70, neuron=None),
    "steps in blocks": Case(1, 3, (2, 2), (2, 1), padding=0, steps=10),
    "groups": Case(128, 64, (6, 6), groups=2, steps=2),
    "wide": Case(64, 160, (8, 9), steps=1, batch=3),
    "dense": Case(65, 40, (5, 5), steps=2, is_sparse=False),
    "dense, one unit": Case(3, 33, (6, 5), (5, 5), padding=2, is_sparse=False),
    "image": Case(3, 40, (9, 9), levels=COUNTS, is_sparse=False, neuron=None, padding=1),
    "signed image, 2:4": Case(36, 40, (5, 5), levels=SIGNED, neuron=None, steps=2),
    "counts in and out": Case(65, 65, (5, 5), levels=Levels(-1, 1), neuron=TERNARY, steps=3),
    "constants per channel, several states": Case(64, 40, neuron=neuron_kinds.delayed_reset_per_channel(40), steps=4),
    "real output": Case(33, 20, neuron=neuron_kinds.REAL[0](20), steps=2),
}


SELDOM = {
    *("paired units", "many chunks", "large kernel", "kernel as large as the input", "wide", "signed image, 2:4"),
    *("constants per channel, several states", "real output", "dense, one unit"),
}
"""What others cover in part."""


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.long) if n in SELDOM else n for n in CASES])
def test_equal(name: str) -> None:
    check(CASES[name])
    output, _ = expected(CASES[name], operands(CASES[name]))
    assert 0.02 < (output > 0).float().mean() < 0.98


def test_chunks_of_channels_in_blocks_of_time() -> None:
    case = Case(256, 32, (3, 3), steps=10)
    gpu = Gpu(shared_bytes=24_000, multiprocessors=1)
    tiling = choose_tiling(case.spec, gpu, case.batch)
    assert tiling is not None
    assert tiling.pairs < 4
    assert tiling.steps < 10
    check(case, gpu)


@pytest.mark.parametrize("multiprocessors", [8, 1000])
def test_small_batches(multiprocessors: int) -> None:
    check(Case(64, 100, (6, 6), steps=2, batch=1), Gpu(multiprocessors=multiprocessors))


@pytest.mark.long
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("size", [(1, 33), (7, 4), (17, 16)], ids=str)
@pytest.mark.parametrize("channels", [1, 3, 17, 64, 65, 100, 130])
def test_many_shapes(channels: int, size: tuple[int, int], seed: int) -> None:
    random.seed(f"{channels} {size} {seed}")
    k, dilation = random.choice([1, 3, 5, 7]), random.choice([1, 2])
    case = Case(
        channels,
        outputs=random.choice([1, 3, 17, 64, 65, 100, 128]),
        size=size,
        kernel=(k, random.choice([1, k])),
        stride=random.choice([1, 2]),
        padding=dilation * (k // 2),
        dilation=dilation,
        steps=random.randint(1, 8),
        is_sparse=random.random() < 0.7,
        levels=random.choice([SPIKES, SPIKES, COUNTS, SIGNED]),
        neuron=random.choice([LEAKY, LEAKY, None]),
        batch=random.randint(1, 3),
    )
    check(case, Gpu(multiprocessors=random.choice([1, 8, 1000])), Schedule(random.random() < 0.5, seed))
