"""How the weights of an event-driven layer's rows are coded: int8, or 7 or 4 bits where all of them are so small.

Rows are added as words of 16 bits, which hold two columns (in int4: four), without widening a byte first:

    word    =  256 · odd + (even + bias)              int8: bias 128, int7: 64; even + bias is never negative
    A += word;  B += word >> 8                        at each event; B sums the odd columns
    Σ even  =  A - 256 · B - bias · events            exact modulo 2^16

Two rows of 7-bit weights are added as bytes before that: even columns stay below 256, odd ones within -126..126. A
byte of int4 holds two columns, each + 8 so that it is positive; up to 16 rows are added as bytes before they are moved
to words.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from spikenm_compile.costs.row_shapes import padded_row, weight_bits
from spikenm_compile.lowering.tir import Expr, T


@dataclass(frozen=True)
class Slot:
    """Where in its row a weight is stored: bits shift.. of a byte, as weight + bias."""

    byte: Expr
    shift: Expr
    bias: Expr


class RowFormat(Enum):
    """Coding of the weights of a row; the value is its name in messages."""

    PLAIN = "plain"
    """One byte a weight, in the order of the columns."""
    PAIRS = "pairs"
    """One byte a weight: a row holds the weights of two inputs, in the order of the columns."""
    INT8 = "int8"
    INT7 = "int7"
    INT4 = "int4"

    @property
    def largest(self) -> int:
        """Largest magnitude of a weight."""
        return {RowFormat.INT7: 63, RowFormat.INT4: 7}.get(self, 127)

    @property
    def bias(self) -> int:
        """What is added to the weights that must not be negative."""
        return {RowFormat.PLAIN: 0, RowFormat.PAIRS: 0, RowFormat.INT8: 128, RowFormat.INT7: 64, RowFormat.INT4: 8}[
            self
        ]

    @property
    def fill(self) -> tuple[int, int]:
        """Even and odd byte, int8, of a row of zeros."""
        if self is RowFormat.INT4:
            return (-0x78, -0x78)
        return ((self.bias + 128) % 256 - 128, 0)

    @property
    def spare_rows(self) -> int:
        """Rows of zeros behind the last, which lists are filled up with."""
        return 0 if self in (RowFormat.PLAIN, RowFormat.PAIRS) else 1

    def row_bytes(self, width: int) -> int:
        """Bytes of a row of that many columns."""
        if self is RowFormat.PAIRS:
            return 2 * padded_row(width, 8)
        return padded_row(width, 4 if self is RowFormat.INT4 else 8)

    def columns(self, row_bytes: int) -> int:
        """Columns that such a row holds, padding included."""
        if self is RowFormat.PAIRS:
            return row_bytes // 2
        return 2 * row_bytes if self is RowFormat.INT4 else row_bytes

    def slot(self, column: Expr, row_bytes: int, half: Expr) -> Slot:
        """The place of a column; `half` is the input of a pair that it belongs to.

        Columns count even bytes first, then odd ones; in int4 low halves first, then high.
        """
        if self is RowFormat.PLAIN:
            return Slot(column, T.int32(0), T.int32(0))
        if self is RowFormat.PAIRS:
            return Slot(2 * column + half, T.int32(0), T.int32(0))
        middle = row_bytes // 2
        in_byte = column % row_bytes
        byte = in_byte % middle * 2 + in_byte // middle
        if self is RowFormat.INT4:
            return Slot(byte, column // row_bytes * 4, T.int32(self.bias))
        return Slot(byte, T.int32(0), T.Select(in_byte < middle, T.int32(self.bias), T.int32(0)))


def format_of(largest: int, width: int) -> RowFormat:
    """The quickest format for weights of that magnitude in rows of that many columns."""
    return {4: RowFormat.INT4, 7: RowFormat.INT7, 8: RowFormat.INT8}[weight_bits(largest, width)]
