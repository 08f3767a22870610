"""How convolutions are dealt out to blocks."""

from __future__ import annotations

from dataclasses import replace

import pytest
from lowering.cuda.conv_cases import Case

from spikenm_compile.errors import PassError
from spikenm_compile.levels import Levels
from spikenm_compile.lowering.cuda.build import build_kernel
from spikenm_compile.lowering.cuda.choose_tiling import choose_tiling
from spikenm_compile.lowering.cuda.generated import Gpu
from spikenm_compile.lowering.cuda.staging import shared_words
from spikenm_compile.lowering.cuda.tiling import Tiling, blocks

GPU = Gpu()
WIDE = Case(256, 256, (16, 16), steps=4, batch=64)


def tiling_of(case: Case, gpu: Gpu = GPU) -> Tiling:
    tiling = choose_tiling(case.spec, gpu, case.batch)
    assert tiling is not None
    return tiling


def test_large_batches_get_large_tiles() -> None:
    tiling = tiling_of(WIDE)
    assert (tiling.outputs, tiling.positions, tiling.steps) == (128, 64, 4)
    assert blocks(WIDE.spec, tiling, WIDE.batch) == 512


def test_a_batch_of_one_gets_small_ones() -> None:
    tiling = tiling_of(replace(WIDE, batch=1))
    assert tiling.outputs * tiling.positions < 128 * 64
    assert blocks(WIDE.spec, tiling, 1) >= Gpu().multiprocessors


@pytest.mark.parametrize(("steps", "at_once"), [(1, 1), (3, 3), (4, 4), (5, 5), (7, 7), (8, 8), (10, 2), (100, 4)])
def test_time_steps_at_once_divide_all(steps: int, at_once: int) -> None:
    tiling = tiling_of(replace(WIDE, steps=steps))
    assert tiling.steps == at_once
    assert tiling.accumulators <= 128


def test_linear_layers_take_samples_for_pixels() -> None:
    tiling = tiling_of(Case(512, 512, (1, 1), (1, 1), padding=0, steps=4, batch=4096))
    assert (tiling.samples, tiling.rows, tiling.width) == (64, 1, 1)


def test_small_images_share_a_block() -> None:
    tiling = tiling_of(Case(512, 512, (4, 4), steps=4, batch=256))
    assert (tiling.samples, tiling.rows, tiling.width) == (4, 4, 4)


def test_channels_are_cut_into_chunks_where_memory_is_short() -> None:
    whole, cut = tiling_of(WIDE), tiling_of(WIDE, Gpu(shared_bytes=50_000))
    assert (whole.pairs, cut.pairs) == (4, 2)
    assert shared_words(WIDE.spec, cut) * 4 <= 50_000


def test_what_does_not_fit_runs_without_tensor_cores() -> None:
    case = Case(32, 32, (90, 90), (90, 90), padding=0, levels=Levels(0, 9))
    assert choose_tiling(case.spec, Gpu(), 64) is None
    assert build_kernel(case.spec, Gpu()).description == "CUDA cores"


def test_a_narrow_halo_is_refused() -> None:
    spec = WIDE.spec
    with pytest.raises(PassError, match=r"padding of 1 pixels from a value with a halo of 0; the halo must be as wide"):
        build_kernel(replace(spec, source=replace(spec.source, halo=0)), Gpu())
