"""Sums of a tile of outputs at many positions at once, out of tables of partial sums.

    for entry, half, output, digit:      bytes[output][digit] += table[index]           index: 4 bits of a plane's byte
    every few entries:                   even += bytes & 255, odd += bytes >> 8         as words
    at the end:                          sum = low + base · high - bias                 positions in their order again

The sums of digits are exact as unsigned words (TableFormat.most_lookups). The last line is computed in words where the
weights prove that every sum fits int16, modulo 2^16, else in int32.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from spikenm_compile.costs.table_format import ENTRIES, INPUTS
from spikenm_compile.lowering import tir
from spikenm_compile.lowering.byte_shuffle import ByteShuffle
from spikenm_compile.lowering.kernels.tables import Tables, TableTile
from spikenm_compile.lowering.tir import Buffer, Expr, T


@dataclass(frozen=True)
class TableSums:
    """The sums of a tile at `shuffle.lanes` positions."""

    tables: Tables
    tile: TableTile
    shuffle: ByteShuffle
    sum_type: str
    """int16, where every sum fits it, or int32."""
    planes: Buffer
    offsets: Buffer
    values: Buffer
    """The tables."""

    @property
    def words(self) -> int:
        """Words of a vector."""
        return self.shuffle.lanes // 2

    def compute(self, position: Expr, sums: Buffer, at: Expr, room: Expr) -> None:
        """Write the sums from a position on to `sums`, each output `room` elements behind the one before."""
        kinds = list(itertools.product(range(self.tile.width), range(self.tables.format.digits), range(2)))
        totals = {kind: tir.local(self.words, "uint16") for kind in kinds}
        for total in totals.values():
            tir.store(total, tir.lanes(0, self.words), tir.constant("uint16", self.words, 0))
        at_once = self.tables.format.bytes_at_once
        chunks, rest = divmod(self.tables.entries, at_once)
        if chunks:
            with T.serial(chunks) as chunk:
                self._add(chunk * at_once, at_once, position, totals)
        if rest:
            self._add(T.int32(chunks * at_once), rest, position, totals)
        for output in range(self.tile.width):
            digits = [[totals[output, d, odd] for odd in range(2)] for d in range(self.tables.format.digits)]
            tir.store(sums, tir.lanes(at + output * room, self.shuffle.lanes), self._total(digits))

    def _add(self, first: Expr, count: int, position: Expr, totals: dict[tuple[int, int, int], Buffer]) -> None:
        """Look up `count` entries."""
        lanes = self.shuffle.lanes
        everything = tir.lanes(0, lanes)
        low, high = (tir.constant("uint8", lanes, value) for value in (ENTRIES - 1, INPUTS))
        outputs = list(itertools.product(range(self.tile.width), range(self.tables.format.digits)))
        added = {kind: tir.local(lanes, "uint8") for kind in outputs}
        for number in range(count):
            entry = first + number
            index = self.planes[tir.lanes(self.offsets[self.tile.slab * self.tables.entries + entry] + position, lanes)]
            for half, part in enumerate((T.bitwise_and(index, low), T.shift_right(index, high))):
                for output, digit in outputs:
                    found = self._look_up(self.tables.table(self.tile, entry, half, output, digit), part)
                    total = added[output, digit]
                    tir.store(total, everything, found if (number, half) == (0, 0) else total[everything] + found)
        for (output, digit), total in added.items():
            words = T.reinterpret(tir.vector("uint16", self.words), total[everything])
            even = T.bitwise_and(words, tir.constant("uint16", self.words, 255))
            odd = T.shift_right(words, tir.constant("uint16", self.words, 8))
            for number, part in enumerate((even, odd)):
                wide = totals[output, digit, number]
                tir.store(wide, tir.lanes(0, self.words), wide[tir.lanes(0, self.words)] + part)

    def _look_up(self, table: Expr, index: Expr) -> Expr:
        lanes = self.shuffle.lanes
        size = min(ENTRIES, lanes)
        parts = [self.values[tir.lanes(table + start, size)] for start in range(0, ENTRIES, size)]
        if lanes > ENTRIES:
            parts = [tir.shuffle(parts * (lanes // ENTRIES), range(lanes))]
        return T.call_llvm_pure_intrin(tir.vector("uint8", lanes), self.shuffle.intrinsic, *parts, index)

    def _total(self, digits: list[list[Buffer]]) -> Expr:
        """Digits of even and odd positions to sums in the order of the positions."""
        both = [self._sum([parts[odd] for parts in digits]) for odd in range(2)]
        order = [number // 2 + number % 2 * self.words for number in range(self.shuffle.lanes)]
        return tir.shuffle(both, order)

    def _sum(self, digits: list[Buffer]) -> Expr:
        parts = [tir.cast(self.sum_type, self.words, digit[tir.lanes(0, self.words)]) for digit in digits]
        total = parts[0] - self._constant(self._bias())
        return total if len(parts) == 1 else total + parts[1] * self._constant(self.tables.format.base)

    def _bias(self) -> int:
        """As the type of the sums holds it: int16 is computed modulo 2^16."""
        bias = self.tables.bias
        return (bias + 2**15) % 2**16 - 2**15 if self.sum_type == "int16" else bias

    def _constant(self, value: int) -> Expr:
        return tir.constant(self.sum_type, self.words, value)
