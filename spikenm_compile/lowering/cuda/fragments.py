"""Weights in the order in which the threads of a warp feed them to tensor cores.

    A [16 outputs, 64 channels] per instruction step, as `[row tile][step][words]`:
    2:4     128 words: lane 4g + r has 4, of four bytes each; then 32 words of metadata, one for each lane
    dense   two instructions of 32 channels each, of 128 words

Word i, byte j of lane 4g + r is row g + 8·(i % 2), column 16·(i // 2) + 4r + j: of the 32 kept weights of a row (2:4),
or of 32 channels. Metadata word of lane 4g + r: row g + 8·(r % 2), kept columns 16·(r // 2) and on, 2 bits each (PTX
ISA, "Warp-level matrix instructions", m16n8k64 of 8-bit types).

Channels come in units of 32, and a step takes two. With one unit, these are neighbouring taps: (tap 0, tap 1), (tap 2,
tap 3), ...; with several, neighbouring units of one tap, taps fastest. Units and taps that do not exist are zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spikenm_compile.errors import PatternError
from spikenm_compile.lowering.cuda.tensors import UNIT

ROWS = 16
"""Outputs of one instruction."""
STEP = 2 * UNIT
"""Channels of one step."""
SPARSE_WORDS, DENSE_WORDS = 160, 256
"""Words of one row tile and step."""


@dataclass(frozen=True)
class Steps:
    """Which (tap, unit) the two halves of a step are."""

    taps: int
    units: int

    @property
    def is_paired(self) -> bool:
        """Whether a step takes two units of one tap."""
        return self.units > 1

    @property
    def count(self) -> int:
        """Number of steps."""
        return self.taps * self.pairs if self.is_paired else -(-self.taps // 2)

    @property
    def pairs(self) -> int:
        """Pairs of units; 1 where taps are paired."""
        return -(-self.units // 2)

    def half(self, step: int, half: int) -> tuple[int, int]:
        """(tap, unit) of one half of a step."""
        if self.is_paired:
            return step % self.taps, step // self.taps * 2 + half
        return 2 * step + half, 0


def pack_fragments(weight: NDArray[np.int8], *, is_sparse: bool) -> NDArray[np.uint32]:
    """[O, I, kh, kw] weights of one channel group to words [⌈O/16⌉, steps, 160 or 256].

    Raises:
        PatternError: `is_sparse`, and more than two of four consecutive channels have a weight.
    """
    matrix = _in_steps(weight)
    tiles = matrix.reshape(-1, ROWS, matrix.shape[1], STEP).transpose(0, 2, 1, 3)
    if not is_sparse:
        return np.concatenate([_registers(tiles[..., :UNIT]), _registers(tiles[..., UNIT:])], axis=-1)
    values, positions = compress(tiles)
    return np.concatenate([_registers(values), _metadata(positions)], axis=-1)


def _in_steps(weight: NDArray[np.int8]) -> NDArray[np.int8]:
    """[⌈O/16⌉·16, steps, 64], zero where nothing is."""
    outputs, channels = weight.shape[:2]
    steps = Steps(int(np.prod(weight.shape[2:])), -(-channels // UNIT))
    padded = np.zeros((-(-outputs // ROWS) * ROWS, steps.taps, steps.units * UNIT), np.int8)
    padded[:outputs, :, :channels] = weight.reshape(outputs, channels, -1).transpose(0, 2, 1)
    result = np.zeros((len(padded), steps.count, STEP), np.int8)
    for step in range(steps.count):
        for half in range(2):
            tap, unit = steps.half(step, half)
            if tap < steps.taps and unit < steps.units:
                result[:, step, half * UNIT : (half + 1) * UNIT] = padded[:, tap, unit * UNIT : (unit + 1) * UNIT]
    return result


def compress(weight: NDArray[np.int8]) -> tuple[NDArray[np.int8], NDArray[np.uint8]]:
    """[..., K] weights to kept values and their positions in the group of four, both [..., K/2], positions ascending.

    Where fewer than two weights are not zero, zeros are kept: the first ones, so that the metadata are determined.
    """
    groups = weight.reshape(*weight.shape[:-1], -1, 4)
    if int((groups != 0).sum(-1).max(initial=0)) > 2:
        raise PatternError(
            "weights for a 2:4 kernel have a group of four consecutive input channels with more than two non-zeros; "
            "2:4 kernels take at most two; prune the layer, or build it dense"
        )
    # a stable sort puts what is not zero first, and keeps the order otherwise
    kept = np.sort(np.argsort(groups == 0, axis=-1, kind="stable")[..., :2], axis=-1)
    values = np.take_along_axis(groups, kept, axis=-1)
    half = (*weight.shape[:-1], weight.shape[-1] // 2)
    return values.reshape(half), kept.astype(np.uint8).reshape(half)


def _registers(block: NDArray[np.int8]) -> NDArray[np.uint32]:
    """[..., 16 rows, 32 columns] to [..., 128] words, [lane][word]."""
    lead = block.shape[:-2]
    # row = 8·high + g, column = 16·part + 4r + j; word i = 2·part + high
    split = np.ascontiguousarray(block).reshape(*lead, 2, 8, 2, 4, 4)
    high, g, part, r, j = (len(lead) + n for n in range(5))
    ordered = np.ascontiguousarray(split.transpose(*range(len(lead)), g, r, part, high, j))
    return ordered.reshape(*lead, -1).view("<u4").astype(np.uint32)


def _metadata(positions: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """[..., 16 rows, 32 kept columns] positions to [..., 32 lanes] words."""
    lead = positions.shape[:-2]
    fields = positions.astype(np.uint32).reshape(*lead, 2, 8, 2, 16) << np.arange(0, 32, 2, dtype=np.uint32)
    words = fields.sum(-1, dtype=np.uint32)  # [high, g, part]; lane 4g + r has r = high + 2·part
    high, g, part = (len(lead) + n for n in range(3))
    return np.ascontiguousarray(words.transpose(*range(len(lead)), g, part, high)).reshape(*lead, 32)
