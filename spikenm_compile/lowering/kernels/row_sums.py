"""Sums of weight rows over events, one class for each way of adding rows of a format (lowering.row_format).

The sums are int16; where the weights do not prove that every sum fits, they are moved to int32 in time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from spikenm_compile.lowering import tir
from spikenm_compile.lowering.kernels.event_run import ROW_WORD
from spikenm_compile.lowering.layout import Tile
from spikenm_compile.lowering.row_format import RowFormat
from spikenm_compile.lowering.tir import Buffer, Expr, T

NIBBLE_EVENTS = 16
"""Rows of int4 that can be added as bytes: 16 · 15 fits in one."""


@dataclass(frozen=True)
class RowSource:
    """What a tile's sums are made of."""

    tile: Tile
    format: RowFormat
    never_overflows: bool
    """Whether the weights prove that every sum fits int16."""
    rows: Buffer

    def row(self, start: Expr, dtype: str, count: int) -> Expr:
        """The tile's row that starts at that word of eight bytes, as `count` values of `dtype`."""
        # 64-bit, so that LLVM may move the addition of the tile's offset out of the loop
        first = T.cast(self.tile.offset // ROW_WORD, "int64") + T.cast(start, "int64")
        return T.reinterpret(tir.vector(dtype, count), self.rows[tir.lanes(first, self.tile.row // ROW_WORD)])


def words_of(rows: Buffer) -> Buffer:
    """Rows of int8 as the words that they are counted in."""
    return T.decl_buffer((tir.UNKNOWN_LENGTH,), "int64", data=rows.data, align=ROW_WORD)


class RowSums(ABC):
    """Sums of the rows that `add` is told of, `total` of them all."""

    unrolled = 4
    """Rows that are added without asking whether there are more."""

    def __init__(self, source: RowSource) -> None:
        self.source = source
        self.columns = source.format.columns(source.tile.row)
        self.words = source.tile.row // 2
        self.at = tir.lanes(0, self.words)
        self.sums = self._make()
        self.count = tir.variable("int32", T.int32(0))
        """Rows in the sums of words, of which each brings its bias."""
        self.wide = None if source.never_overflows else tir.local(self.columns, "int32")
        if self.wide is not None:
            tir.store(self.wide, tir.lanes(0, self.columns), tir.constant("int32", self.columns, 0))

    @abstractmethod
    def _make(self) -> list[Buffer]:
        """Make the sums of words, zero, and tell all of them."""

    @abstractmethod
    def _add(self, rows: Buffer, count: Expr) -> None:
        """Add the rows whose numbers are the first `count` of `rows`, a multiple of `unrolled`."""

    @abstractmethod
    def _read(self) -> Expr:
        """The sums of words in the order of the columns, int16."""

    @property
    def room(self) -> int:
        """Rows that `add` may be given at once: no int16 sum overflows on so many of the largest weights."""
        return 2**15 // self.source.format.largest - self.unrolled if self.wide is not None else 2**15

    def add(self, rows: Buffer, count: Expr) -> None:
        """Add the rows whose numbers are the first `count` of `rows`, a multiple of `unrolled`."""
        self._add(rows, count)
        tir.store(self.count, 0, self.count[0] + count)
        if self.wide is not None:
            self._widen(self.wide)

    def _widen(self, wide: Buffer) -> None:
        lanes = tir.lanes(0, self.columns)
        tir.store(wide, lanes, wide[lanes] + tir.cast("int32", self.columns, tir.named(self._read())))
        for sums in self.sums:
            tir.store(sums, self.at, tir.constant("int16", self.words, 0))
        tir.store(self.count, 0, T.int32(0))

    def total(self) -> Expr:
        """All that was added, in the order of the columns, int16 or int32."""
        return tir.named(self._read() if self.wide is None else self.wide[tir.lanes(0, self.columns)])

    def _bias(self) -> Expr:
        return tir.splat(T.cast(self.count[0] * self.source.format.bias, "int16"), self.words)

    def _new_words(self) -> Buffer:
        words = tir.local(self.words, "int16")
        tir.store(words, self.at, tir.constant("int16", self.words, 0))
        return words

    def _shifted(self, words: Expr, dtype: str = "int16") -> Expr:
        return T.shift_right(words, tir.constant(dtype, self.words, 8))


class ByteRowSums(RowSums):
    """Rows of int8."""

    def _make(self) -> list[Buffer]:
        self.both, self.odd = self._new_words(), self._new_words()
        return [self.both, self.odd]

    def _add(self, rows: Buffer, count: Expr) -> None:
        with T.serial(count // self.unrolled) as step:
            for i in range(self.unrolled):
                self._add_words(self.source.row(rows[step * self.unrolled + i], "int16", self.words))

    def _add_words(self, value: Expr) -> None:
        tir.store(self.both, self.at, self.both[self.at] + value)
        tir.store(self.odd, self.at, self.odd[self.at] + self._shifted(value))

    def _read(self) -> Expr:
        odd = tir.named(self.odd[self.at])
        even = self.both[self.at] - T.shift_left(odd, tir.constant("int16", self.words, 8)) - self._bias()
        return tir.join([even, odd], range(self.columns))


class PairedRowSums(ByteRowSums):
    """Rows of 7-bit weights: two are added as bytes."""

    def _add(self, rows: Buffer, count: Expr) -> None:
        row_bytes = self.source.tile.row
        with T.serial(count // self.unrolled) as step:
            for pair in range(0, self.unrolled, 2):
                at = step * self.unrolled + pair
                both = self.source.row(rows[at], "int8", row_bytes) + self.source.row(rows[at + 1], "int8", row_bytes)
                self._add_words(T.reinterpret(tir.vector("int16", self.words), both))


class NibbleRowSums(RowSums):
    """Rows of int4, two columns a byte."""

    unrolled = NIBBLE_EVENTS

    def _make(self) -> list[Buffer]:
        row_bytes = self.source.tile.row
        self.bytes = tir.lanes(0, row_bytes)
        self.all, self.high = tir.local(row_bytes, "uint8"), tir.local(row_bytes, "uint8")
        self.quarters = [self._new_words() for _ in range(4)]
        return self.quarters

    def _add(self, rows: Buffer, count: Expr) -> None:
        row_bytes = self.source.tile.row
        four = tir.constant("uint8", row_bytes, 4)
        with T.serial(count // NIBBLE_EVENTS) as chunk:
            for sums in (self.all, self.high):
                tir.store(sums, self.bytes, tir.constant("uint8", row_bytes, 0))
            for i in range(NIBBLE_EVENTS):
                value = self.source.row(rows[chunk * NIBBLE_EVENTS + i], "uint8", row_bytes)
                tir.store(self.all, self.bytes, self.all[self.bytes] + value)
                tir.store(self.high, self.bytes, self.high[self.bytes] + T.shift_right(value, four))
            self._add_nibbles(self.all[self.bytes] - T.shift_left(self.high[self.bytes], four), self.quarters[:2])
            self._add_nibbles(self.high[self.bytes], self.quarters[2:])

    def _add_nibbles(self, sums: Expr, even_and_odd: list[Buffer]) -> None:
        """Sums as bytes to those as words."""
        words = T.reinterpret(tir.vector("uint16", self.words), sums)
        even = T.bitwise_and(words, tir.constant("uint16", self.words, 255))
        for quarter, part in zip(even_and_odd, (even, self._shifted(words, "uint16")), strict=True):
            tir.store(quarter, self.at, quarter[self.at] + tir.cast("int16", self.words, part))

    def _read(self) -> Expr:
        bias = tir.named(self._bias())
        return tir.join([quarter[self.at] - bias for quarter in self.quarters], range(self.columns))


ROW_SUMS: dict[RowFormat, type[RowSums]] = {
    RowFormat.INT8: ByteRowSums,
    RowFormat.INT7: PairedRowSums,
    RowFormat.INT4: NibbleRowSums,
}
"""Format -> how its rows are added."""
