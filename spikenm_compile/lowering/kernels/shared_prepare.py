"""Stored weights to patterns and rows of shared slabs, once when an artifact is loaded.

    pattern[slab][tap][word]     a bit for each channel at which a weight of the slab is not zero
    rows[slab][tile][i · slots + r][o]     the weights of the r-th kept channel of word i

Where bits are moved together by shifts (kept_list), six more planes stand behind the patterns of a slab: the bits that
are moved by 1, 2, 4, 8, 16 and 32 places. A bit moves by as many places as clear bits are below it, by the 1 of that
number first: so no two bits meet (Warren, Hacker's Delight, 2nd edition, 7-4).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tvm import tirx

from spikenm_compile.lowering import tir
from spikenm_compile.lowering.kernels.prepare import StoredWeight, fill_rows, give_weights, write_weight
from spikenm_compile.lowering.layout import WORD, Tile
from spikenm_compile.lowering.shared_slabs import SHIFTS, VALUES_OF_BYTE, SharedSlabs
from spikenm_compile.lowering.tir import Buffer, Expr, T

BYTE = 8


def build_shared_prepare(name: str, slabs: SharedSlabs, stored: StoredWeight) -> list[tirx.PrimFunc]:
    """Kernel `(values, metadata, rows, patterns, table, num_steps)`."""
    functions = list[tirx.PrimFunc]()
    params = [tir.Param("values", "int8"), tir.Param("metadata", "uint8"), tir.Param("rows", "int8")]
    params += [tir.Param("patterns", "uint64"), tir.Param("table", "uint8")]
    with tir.kernel(name, params, functions) as ((values, metadata, rows, patterns, table), _):
        with T.serial(slabs.pattern_bytes // 8) as i:
            tir.store(patterns, i, T.uint64(0))
        with T.serial(slabs.outputs) as output:
            mark = _Mark(slabs, stored, output // slabs.rows.outputs, patterns)
            give_weights(stored, output, mark, values, metadata)
        fill_rows(slabs.rows.format, rows, slabs.row_bytes)
        for slab, rows_of_slab in slabs.loop():
            for tile in rows_of_slab.loop():
                own = replace(tile, offset=slab * slabs.rows.num_bytes + tile.offset)
                with T.serial(tile.width) as column:
                    target = _KeptColumn(slabs, stored, slab, patterns, own, column, rows)
                    output = slab * slabs.rows.outputs + tile.first + column
                    give_weights(stored, output, target, values, metadata)
        if not slabs.tools.has_pext:
            with T.serial(slabs.count) as slab, T.serial(slabs.words) as word:
                _plan_shifts(slabs, slab, word, patterns)
        if slabs.table_bytes:
            _fill_table(table)
    return functions


@dataclass(frozen=True)
class _Mark:
    """Marks the kept channels of one output in its slab's pattern."""

    slabs: SharedSlabs
    stored: StoredWeight
    slab: Expr
    patterns: Buffer

    def place(self, channel: Expr, tap: Expr) -> tuple[Expr, Expr]:
        """(word of the patterns, bit in it) of a stored channel and tap."""
        row_tap, row_channel = self.stored.place(channel, tap)
        return row_tap * self.slabs.spikes.pixel + row_channel // WORD, T.cast(row_channel % WORD, "uint64")

    def write(self, channel: Expr, tap: Expr, weight: Expr) -> None:
        """Mark a weight that is not zero."""
        word, bit = self.place(channel, tap)
        at = self.slabs.pattern_at(self.slab, word)
        marked = T.bitwise_or(self.patterns[at], T.shift_left(T.cast(weight != T.int8(0), "uint64"), bit))
        tir.store(self.patterns, at, marked)


@dataclass(frozen=True)
class _KeptColumn(_Mark):
    """Where the weights of one output go."""

    tile: Tile
    column: Expr
    rows: Buffer

    def write(self, channel: Expr, tap: Expr, weight: Expr) -> None:
        """Write a weight that is not zero over a zero."""
        word, bit = self.place(channel, tap)
        before = T.shift_left(T.uint64(1), bit) - T.uint64(1)
        pattern = self.patterns[self.slabs.pattern_at(self.slab, word)]
        rank = T.cast(T.popcount(T.bitwise_and(pattern, before)), "int32")
        with T.If(weight != T.int8(0)), T.Then():
            row = word * self.slabs.slots + rank
            write_weight(self.slabs.rows.format, self.tile, self.column, (row, 0), weight, self.rows)


def _plan_shifts(slabs: SharedSlabs, slab: Expr, word: Expr, patterns: Buffer) -> None:
    """The bits of one word of a pattern that move at each shift."""
    mask = tir.variable("uint64", patterns[slabs.pattern_at(slab, word)])
    clear_below = tir.variable("uint64", T.shift_left(T.bitwise_not(mask[0]), T.uint64(1)))
    parity = tir.variable("uint64", T.uint64(0))
    for plane, distance in enumerate(SHIFTS, start=1):
        tir.store(parity, 0, clear_below[0])
        for step in SHIFTS:  # bit i becomes the parity of all clear bits below it
            tir.store(parity, 0, T.bitwise_xor(parity[0], T.shift_left(parity[0], T.uint64(step))))
        moving = tir.variable("uint64", T.bitwise_and(parity[0], mask[0]))
        tir.store(patterns, slabs.pattern_at(slab, word, plane), moving[0])
        nearer = T.shift_right(moving[0], T.uint64(distance))
        tir.store(mask, 0, T.bitwise_or(T.bitwise_xor(mask[0], moving[0]), nearer))
        tir.store(clear_below, 0, T.bitwise_and(clear_below[0], T.bitwise_not(parity[0])))


def _fill_table(table: Buffer) -> None:
    """For each byte the positions of its set bits, in order, and behind all of these the number of them."""
    count = tir.variable("int32", T.int32(0))
    with T.serial(VALUES_OF_BYTE) as value:
        tir.store(count, 0, T.int32(0))
        with T.serial(BYTE) as position:
            tir.store(table, value * BYTE + count[0], T.cast(position, "uint8"))
            is_set = T.bitwise_and(T.shift_right(value, position), 1)
            tir.store(count, 0, count[0] + is_set)
        tir.store(table, VALUES_OF_BYTE * BYTE + value, T.cast(count[0], "uint8"))
