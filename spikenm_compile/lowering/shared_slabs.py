"""Slabs of outputs that have a mask in common, and the numbers of the weight rows that the mask keeps.

    kept[slab][ky][kx][c]     whether a weight of any of the slab's outputs is not zero there

The channels of a pixel are words of 64, as spikes are; so are the kept ones: the slab's patterns, in the order
[ky][kx][word] of the spikes under a kernel. Every word has as many `slots` as the fullest one keeps channels, and the
row of the r-th kept channel of word i is number i · slots + r: which row a spike adds follows from its place alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch.nn.functional as F

from spikenm_compile.costs.row_shapes import slab_width
from spikenm_compile.lowering.instructions import Instructions
from spikenm_compile.lowering.layout import WORD, Bits, Rows
from spikenm_compile.lowering.row_format import format_of
from spikenm_compile.lowering.tir import Expr, T, bytes_of
from spikenm_compile.ops import IntConv2d
from spikenm_compile.pattern import Pattern

SHIFTS = (1, 2, 4, 8, 16, 32)
"""Distances that bits are moved by, one after the other, where there is no instruction for all at once."""
VALUES_OF_BYTE = 256
APPENDED = 16
"""Entries that are written at once: so many may be written behind the last of a list."""


@dataclass(frozen=True)
class SharedSlabs:
    """The input of a layer of slabs, and what its lists of rows are made with."""

    spikes: Bits
    kernel: tuple[int, int]
    rows: Rows
    """Of one slab of full width, in tiles; a last, narrower slab has a set of its own."""
    outputs: int
    slots: int
    tools: Instructions

    @classmethod
    def of(cls, conv: IntConv2d, spikes: Bits, tile_width: int, tools: Instructions) -> SharedSlabs:
        """Those of a layer whose weights hold `conv.pattern`, in slabs."""
        outputs, channels, height, width = conv.weight.shape
        assert conv.pattern is not None
        slab = slab_width(outputs, conv.pattern.v)
        kept = Pattern(1, 2, slab).slabs(conv.weight != 0).any(1).movedim(1, -1)
        words = F.pad(kept, (0, -channels % WORD)).reshape(-1, WORD)
        slots = max(1, int(words.sum(-1).max()))
        weights = format_of(int(conv.weight.abs().max()), min(slab, tile_width))
        rows = Rows(slab, height * width, spikes.pixel * slots, tile_width, weights)
        return cls(spikes, (height, width), rows, outputs, slots, tools)

    @property
    def run(self) -> int:
        """Words of one kernel row, which are neighbours in memory."""
        return self.kernel[1] * self.spikes.pixel

    @property
    def words(self) -> int:
        """Of the patterns of one slab."""
        return self.kernel[0] * self.run

    @property
    def joined(self) -> int:
        """Words whose slots fit one word together."""
        return min(self.run, WORD // self.slots)

    @property
    def planes(self) -> int:
        """Words that are stored for a word of a pattern: itself and, without pext, the bits that move at each shift."""
        return 1 if self.tools.has_pext else 1 + len(SHIFTS)

    @property
    def count(self) -> int:
        """Number of slabs."""
        return -(-self.outputs // self.rows.outputs)

    @property
    def last_rows(self) -> Rows | None:
        """Rows of the last slab where it is narrower than the others."""
        tail = self.outputs % self.rows.outputs
        return replace(self.rows, outputs=tail) if tail else None

    @property
    def row_bytes(self) -> int:
        """Size of the rows of all slabs."""
        last = self.last_rows
        full = self.outputs // self.rows.outputs * self.rows.num_bytes
        return full + (0 if last is None else last.num_bytes)

    @property
    def pattern_bytes(self) -> int:
        """Size of the patterns of all slabs."""
        return 8 * self.count * self.planes * self.words

    @property
    def table_bytes(self) -> int:
        """Size of the table of bytes: positions of the set bits, eight for each value, then the number of these."""
        return 0 if self.tools.has_compress else VALUES_OF_BYTE * 9

    @property
    def dtype(self) -> str:
        """Type of a list's entries, numbers of rows."""
        return "int32" if self.tools.has_compress or self.rows.num_rows >= 2**16 else "uint16"

    @property
    def longest(self) -> int:
        """Entries that a list has room for: all rows, and what is written behind the last."""
        return self.rows.num_rows + APPENDED

    def list_bytes(self, num_steps: int) -> int:
        """Size of the lists of one output pixel."""
        return num_steps * self.longest * bytes_of(self.dtype)

    def pattern_at(self, slab: Expr, word: Expr, plane: int = 0) -> Expr:
        """Index of a word of the patterns."""
        return (slab * self.planes + plane) * self.words + word

    def loop(self) -> Iterator[tuple[Expr, Rows]]:
        """The slabs inside a TIR kernel, each with its rows: a loop over the full ones, then the narrower one."""
        full = self.outputs // self.rows.outputs
        if full:
            with T.serial(full) as slab:
                yield slab, self.rows
        if self.last_rows is not None:
            yield full, self.last_rows
