"""How partial sums of a few weights are coded as bytes of tables.

The sum of the weights of four inputs that spike is counted from the least that there is, that of the negative weights,
and so at most 4 · largest. It is kept as one digit, or as two digits of a smaller base, which have tables of their own:

    sum - least  =  low + base · high           int8: base 23, int7: 16; int4: one digit, 0..28

Digits of several lookups are added as bytes before they are moved to words: the smaller the digits, the more.
"""

from __future__ import annotations

from dataclasses import dataclass

INPUTS = 4
"""Inputs of a table: their spikes are its index."""
ENTRIES: int = 2**INPUTS
"""Bytes of a table."""
BYTE_INPUTS = 2 * INPUTS
"""Inputs of an index byte, which is the index of two tables."""


@dataclass(frozen=True)
class TableFormat:
    """Coding of partial sums of weights of that magnitude."""

    largest: int
    base: int
    """Of the digits; 256 where there is one."""

    @property
    def digits(self) -> int:
        """Tables for each group of inputs."""
        return 1 if self.base == 256 else 2

    @property
    def largest_digit(self) -> int:
        """The most that a lookup adds to a sum of bytes."""
        return min(self.base - 1, INPUTS * self.largest)

    @property
    def bytes_at_once(self) -> int:
        """Index bytes, of two lookups each, whose digits are added as bytes."""
        return 255 // self.largest_digit // 2

    @property
    def most_lookups(self) -> int:
        """Lookups whose digits add up to an unsigned word."""
        return (2**16 - 1) // self.largest_digit


INT8, INT7, INT4 = TableFormat(127, 23), TableFormat(63, 16), TableFormat(7, 256)


def table_format_of(largest: int) -> TableFormat:
    """The quickest format for weights of that magnitude."""
    return next(f for f in (INT4, INT7, INT8) if largest <= f.largest)


MAX_CLASSES = 16
"""Most classes that the kernels part inputs into."""


def table_classes(outputs: int, slabs: int) -> int:
    """Classes of inputs where a pattern makes so many slabs of outputs; 1 where the slabs are unequal or too many."""
    return slabs if outputs % slabs == 0 and slabs <= MAX_CLASSES else 1


def class_bytes(channels: int, classes: int) -> int:
    """Index bytes of each class of a pixel's inputs."""
    return -(-channels // (BYTE_INPUTS * classes))
