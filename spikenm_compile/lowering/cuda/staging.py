"""What a block of a convolution has in shared memory: a chunk of the levels, then the stages of weights."""

from __future__ import annotations

from dataclasses import dataclass

from spikenm_compile.lowering.cuda.fragments import ROWS
from spikenm_compile.lowering.cuda.specs import ConvSpec
from spikenm_compile.lowering.cuda.tiling import Tiling, steps_of, words_of_row_tile, words_of_unit

NUM_STAGES = 4
"""Stages of weights in shared memory: one that is read, and three under way."""


@dataclass(frozen=True)
class Staged:
    """The part of the input that a block holds: [samples][height][width][pixel] words in shared memory."""

    height: int
    width: int
    run: int
    """Words of one step of one pixel."""
    pixel: int
    """Words from one pixel to the next; padded so that lanes read from different banks."""
    words: int
    copy: int
    """Words of one copy."""


def staged(spec: ConvSpec, tiling: Tiling) -> Staged:
    """Layout of the input in shared memory."""
    g = spec.geometry
    height, width = (
        (n - 1) * stride + (kernel - 1) * dilation + 1
        for n, stride, kernel, dilation in zip((tiling.rows, tiling.width), g.stride, g.kernel, g.dilation, strict=True)
    )
    steps = steps_of(spec)
    word = words_of_unit(spec)
    run = (2 * tiling.pairs if steps.is_paired else 1) * word
    is_even = steps.is_paired and steps.units % 2 == 0 and spec.source.units % 2 == 0
    vector = 4 if word == 8 else 2 if is_even else 1
    pixel = tiling.steps * run
    lanes = 4 if word == 8 else 2 if steps.is_paired else 1
    while pixel // lanes % 2 == 0:
        pixel += lanes
    return Staged(height, width, run, pixel, tiling.samples * height * width * pixel, vector)


def weights_in_shared(spec: ConvSpec, tiling: Tiling) -> int:
    """Words of one stage of weights."""
    return tiling.stage_steps * tiling.outputs // ROWS * words_of_row_tile(spec)


def shared_words(spec: ConvSpec, tiling: Tiling) -> int:
    """Words of shared memory, both parts; the second begins at a multiple of four."""
    return aligned_to(staged(spec, tiling).words, 4) + NUM_STAGES * weights_in_shared(spec, tiling)


def aligned_to(number: int, unit: int) -> int:
    """Next multiple of `unit`."""
    return -(-number // unit) * unit
