"""Sums of a tile of outputs at many positions at once, out of tables of partial sums.

    for entry, half, output, digit:      bytes[output][digit] += table[index]           index: 4 bits of a plane's byte
    every few entries:                   even += bytes & 255, odd += bytes >> 8         as words
    at the end:                          sum = low + base · high                        even and odd together again

The sums of digits are exact as unsigned words (TableFormat.most_lookups). The last line is computed in words where the
weights prove that every sum fits int16, modulo 2^16, else in int32. Readers add the least sum, which these count from.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from spikenm_compile.costs.table_format import ENTRIES, INPUTS
from spikenm_compile.lowering import tir
from spikenm_compile.lowering.byte_shuffle import ByteShuffle
from spikenm_compile.lowering.kernels.tables import Tables, TableTile
from spikenm_compile.lowering.tir import Buffer, Expr, T

Kind = tuple[int, int, int]
"""Vector of outputs, digit, group of positions."""


@dataclass(frozen=True)
class TableSums:
    """The sums of a tile at some groups of positions."""

    tables: Tables
    tile: TableTile
    sum_type: str
    """int16, where every sum fits it, or int32."""
    planes: Buffer
    offsets: Buffer
    values: Buffer
    """The tables."""

    @property
    def shuffle(self) -> ByteShuffle:
        """What looks up."""
        return self.tables.shuffle

    @property
    def words(self) -> int:
        """Words of a vector."""
        return self.shuffle.lanes // 2

    @property
    def groups(self) -> int:
        """Groups of positions that `compute` works on."""
        return self.shuffle.groups(self.tile.padded, self.tables.format.digits)

    @property
    def kinds(self) -> list[Kind]:
        """All vectors of sums of bytes."""
        vectors = range(self.tile.padded // self.shuffle.side)
        return list(itertools.product(vectors, range(self.tables.format.digits), range(self.groups)))

    def compute(self, position: Expr, sums: Buffer, group: Expr) -> None:
        """Write the sums from a position on to `sums` [group][padded outputs][positions of a group]."""
        totals = {kind: [tir.local(self.words, "uint16") for _ in range(2)] for kind in self.kinds}
        for total in itertools.chain.from_iterable(totals.values()):
            tir.store(total, tir.lanes(0, self.words), tir.constant("uint16", self.words, 0))
        at_once = self.tables.format.bytes_at_once
        chunks, rest = divmod(self.tables.entries, at_once)
        if chunks:
            with T.serial(chunks) as chunk:
                self._add(chunk * at_once, at_once, position, totals)
        if rest:
            self._add(T.int32(chunks * at_once), rest, position, totals)
        for vector, digit, number in self.kinds:
            if digit == 0:
                digits = [totals[vector, d, number] for d in range(self.tables.format.digits)]
                first = (group + number) * self.tile.padded + vector * self.shuffle.side
                tir.store(sums, tir.lanes(first * self.shuffle.group, self.shuffle.lanes), self._total(digits))

    def _add(self, first: Expr, count: int, position: Expr, totals: dict[Kind, list[Buffer]]) -> None:
        """Look up `count` entries."""
        lanes = self.shuffle.lanes
        everything = tir.lanes(0, lanes)
        added = {kind: tir.local(lanes, "uint8") for kind in self.kinds}
        for number, half in itertools.product(range(count), range(2)):
            entry = first + number
            offset = self.offsets[self.tile.slab * self.tables.entries + entry] + position
            indices = [self._index(offset + group * self.shuffle.group, half) for group in range(self.groups)]
            for (vector, digit, group), total in added.items():
                table = self.tables.table(self.tile, entry, half, vector * self.shuffle.side, digit)
                found = self._look_up(table, indices[group])
                tir.store(total, everything, found if (number, half) == (0, 0) else total[everything] + found)
        for kind, total in added.items():
            words = T.reinterpret(tir.vector("uint16", self.words), total[everything])
            even = T.bitwise_and(words, tir.constant("uint16", self.words, 255))
            odd = T.shift_right(words, tir.constant("uint16", self.words, 8))
            for wide, part in zip(totals[kind], (even, odd), strict=True):
                tir.store(wide, tir.lanes(0, self.words), wide[tir.lanes(0, self.words)] + part)

    def _index(self, at: Expr, half: int) -> Expr:
        """The low or high half of the index bytes of a group, once for each output of a vector."""
        lanes, group = self.shuffle.lanes, self.planes[tir.lanes(at, self.shuffle.group)]
        both = group if self.shuffle.side == 1 else tir.join([group] * self.shuffle.side, range(lanes))
        if half:
            return T.shift_right(both, tir.constant("uint8", lanes, INPUTS))
        return T.bitwise_and(both, tir.constant("uint8", lanes, ENTRIES - 1))

    def _look_up(self, table: Expr, index: Expr) -> Expr:
        lanes = self.shuffle.lanes
        parts = [self.values[tir.lanes(table + start, lanes)] for start in range(0, ENTRIES, min(lanes, ENTRIES))]
        return T.call_llvm_pure_intrin(tir.vector("uint8", lanes), self.shuffle.intrinsic, *parts, index)

    def _total(self, digits: list[list[Buffer]]) -> Expr:
        """Digits of even and odd lanes to sums in the order of the lanes."""
        both = [self._sum([parts[odd] for parts in digits]) for odd in range(2)]
        order = [number // 2 + number % 2 * self.words for number in range(self.shuffle.lanes)]
        return tir.join(both, order)

    def _sum(self, digits: list[Buffer]) -> Expr:
        low, *high = (tir.cast(self.sum_type, self.words, digit[tir.lanes(0, self.words)]) for digit in digits)
        base = tir.constant(self.sum_type, self.words, self.tables.format.base)
        return low + high[0] * base if high else low
