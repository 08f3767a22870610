"""Spikes of some neurons, 0.0 or 1.0, to bits in memory."""

from __future__ import annotations

from spikenm_compile.lowering import tir
from spikenm_compile.lowering.tir import Buffer, Expr

BYTE_TO_BIT = 0x0102040810204080
"""Product of this and eight bytes that are 0 or 1 has byte i as bit 56 + i: eight spikes to one byte, no carry."""


class SpikeBits:
    """One byte for each of `count` spikes, in whole groups of eight; those behind the last spike stay zero."""

    def __init__(self, count: int) -> None:
        self.count, self.size = count, -(-count // 8) * 8
        self.flags = tir.local(self.size, "uint8")

    def clear(self) -> None:
        """Once before the time loop."""
        tir.store(self.flags, tir.lanes(0, self.size), tir.constant("uint8", self.size, 0))

    def write(self, spikes: Expr, memory: Buffer, byte: Expr) -> None:
        """Write the spikes as bits from byte index `byte` of `memory` (uint8) on."""
        one, zero = (tir.constant("uint8", self.count, value) for value in (1, 0))
        is_silent = tir.equal(spikes, tir.constant("float32", self.count, 0.0))
        tir.store(self.flags, tir.lanes(0, self.count), tir.select(is_silent, zero, one))
        for group in range(self.size // 8):
            word = tir.T.reinterpret("uint64", self.flags[tir.lanes(group * 8, 8)])
            packed = tir.T.shift_right(word * tir.T.uint64(BYTE_TO_BIT), tir.T.uint64(56))
            tir.store(memory, byte + group, tir.T.cast(packed, "uint8"))
