"""Positions of the bits of a word that are set, a byte at a time: no loop whose length only the spikes tell.

A table says for each byte where its bits are, and another how many. Eight entries are written at once, and those behind
the byte's last one are written over by the next byte.
"""

from __future__ import annotations

from collections.abc import Iterable

import tvm

from spikenm_compile.lowering import tir
from spikenm_compile.lowering.tir import Buffer, Expr, T

BYTE = 8
"""Bits of a byte, and entries that are written at once: so many may be written behind the last."""


LAST = BYTE - 1


class BitPositions:
    """Appends positions to lists of `dtype`; to be made outside of all loops."""

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype
        self.positions = _table(p + LAST - lane for byte in range(2**BYTE) for lane, p in enumerate(_positions(byte)))
        self.counts = _table(byte.bit_count() for byte in range(2**BYTE))

    def append(self, word: Expr, entries: Buffer, at: Expr, first: Expr, num_bytes: int = 8) -> Expr:
        """Write `first` + position to entries[at], ... for each bit of the lowest bytes; tell where it ends."""
        signed = self.dtype.removeprefix("u")
        every = tir.splat(T.cast(first - LAST, signed), BYTE)
        for byte in range(num_bytes):
            bits = T.cast(T.shift_right(word, T.uint64(8 * byte)) & T.uint64(255), "int64")
            # Lanes stand in the table and in the sum: of sums of equal lanes LLVM broadcasts each on its own.
            lanes = every + tir.cast(signed, BYTE, T.ramp(T.int32(BYTE * byte), 1, BYTE))
            positions = tir.cast(signed, BYTE, self.positions[tir.lanes(bits * BYTE, BYTE)]) + lanes
            tir.store(entries, tir.lanes(at, BYTE), T.reinterpret(tir.vector(self.dtype, BYTE), positions))
            at = tir.named(at + T.cast(self.counts[bits], "int64"))
        return at


def _positions(byte: int) -> list[int]:
    """Positions of a byte's bits, filled up with zeros."""
    found = [i for i in range(BYTE) if byte >> i & 1]
    return found + [0] * (BYTE - len(found))


def _table(numbers: Iterable[int]) -> Buffer:
    """Constant bytes."""
    text = "".join(map(chr, numbers))
    return T.decl_buffer((len(text),), "uint8", data=T.bind(T.reinterpret("handle", tvm.ir.StringImm(text))), align=1)
