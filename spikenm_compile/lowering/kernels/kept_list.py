"""The list of weight rows that one output of a slab adds: the spikes under its kernel that the slab's pattern keeps.

    for ky, for word i of the kernel row:    kept = the bits of spikes[i] under pattern[i], moved together
                                             i · slots + r is appended for each set bit r of kept

No branch depends on the spikes: bits are moved together by pext or by six shifts, for several words at a time whose
slots fit one word, and set bits become entries sixteen (AVX-512) or eight (a table of bytes) at a time, those of
clear bits being written over by what follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm import tirx

from spikenm_compile.lowering import tir
from spikenm_compile.lowering.kernels.row_sums import ROW_SUMS
from spikenm_compile.lowering.shared_slabs import APPENDED, SHIFTS, VALUES_OF_BYTE, SharedSlabs
from spikenm_compile.lowering.tir import Buffer, Expr, T

BYTE = 8
AT_ONCE = 4
"""Words that are treated together at least where vectors do the shifts."""


@dataclass(frozen=True)
class KeptList:
    """Writes lists of one slab; the buffers are those of the kernel."""

    slabs: SharedSlabs
    slab: Expr
    spikes: Buffer
    patterns: Buffer
    table: Buffer
    entries: Buffer

    def write(self, first: Expr, pixel: Expr) -> Expr:
        """Write the list whose entries begin at `first`, of the output whose first tap reads the word at `pixel`.

        Returns:
            Its length, filled up with the row of zeros to a multiple of `unrolled`.
        """
        slabs, unit = self.slabs, self._unit()
        end = _End(slabs, T.cast(first, "int64"))
        with T.serial(slabs.kernel[0]) as ky:
            spikes, words = pixel + ky * slabs.spikes.row, ky * slabs.run
            with T.serial(slabs.run // unit) as i:
                self._append_words(end, spikes + i * unit, words + i * unit, unit)
            done = slabs.run // unit * unit
            if done < slabs.run:
                self._append_words(end, spikes + done, words + done, slabs.run - done)
        unrolled = ROW_SUMS[slabs.rows.format].unrolled
        zeros = tir.constant(slabs.dtype, unrolled, slabs.rows.num_rows)
        tir.store(self.entries, tir.lanes(end.at[0], unrolled), zeros)
        return (T.cast(end.at[0], "int32") - first + (unrolled - 1)) // unrolled * unrolled

    def _unit(self) -> int:
        """Words of one pass of the loop: whole joins."""
        joined = self.slabs.joined
        joins = 1 if self.slabs.tools.has_pext else -(-AT_ONCE // joined)
        return min(joined * joins, self.slabs.run)

    def _append_words(self, end: _End, spikes: Expr, word: Expr, num_words: int) -> None:
        """Append what is kept of `num_words` words, from index `spikes` of the spikes and `word` of the pattern on."""
        slots, joined = self.slabs.slots, self.slabs.joined
        kept = self._kept(spikes, word, num_words)
        for first in range(0, num_words, joined):
            together = kept[first : first + joined]
            bits = together[0]
            for i, more in enumerate(together[1:], start=1):
                bits = T.bitwise_or(bits, T.shift_left(more, T.uint64(i * slots)))
            self._append(end, tir.variable("uint64", bits)[0], len(together) * slots)

    def _kept(self, spikes: Expr, word: Expr, num_words: int) -> Sequence[Expr]:
        """The bits under the pattern of each word, moved together."""
        slabs = self.slabs
        if slabs.tools.has_pext:
            at = slabs.pattern_at(self.slab, word)
            pairs = ((self.spikes[spikes + i], self.patterns[at + i]) for i in range(num_words))
            return [T.call_llvm_pure_intrin("uint64", "llvm.x86.bmi.pext.64", *pair) for pair in pairs]
        planes = [
            self.patterns[tir.lanes(slabs.pattern_at(self.slab, word, p), num_words)] for p in range(slabs.planes)
        ]
        kept, lanes = tir.local(num_words, "uint64"), tir.lanes(0, num_words)
        tir.store(kept, lanes, T.bitwise_and(self.spikes[tir.lanes(spikes, num_words)], planes[0]))
        for shift, plane in zip(SHIFTS, planes[1:], strict=True):
            moved = T.bitwise_and(kept[lanes], plane)
            nearer = T.shift_right(moved, tir.constant("uint64", num_words, shift))
            tir.store(kept, lanes, T.bitwise_or(T.bitwise_xor(kept[lanes], moved), nearer))
        return [kept[i] for i in range(num_words)]

    def _append(self, end: _End, bits: Expr, num_bits: int) -> None:
        """Append the numbers of the set bits among the next `num_bits`."""
        for low in range(0, num_bits, end.lanes):
            part = T.shift_right(bits, T.uint64(low))
            if self.slabs.tools.has_compress:
                entries, count = self._compressed(T.cast(part, "uint16"), end.numbers)
            else:
                entries, count = self._of_byte(T.bitwise_and(part, T.uint64(VALUES_OF_BYTE - 1)), end.numbers)
            tir.store(self.entries, tir.lanes(end.at[0], end.lanes), entries)
            end.advance(count, min(end.lanes, num_bits - low))

    def _compressed(self, bits: Expr, numbers: Expr) -> tuple[Expr, Expr]:
        """(the numbers of the set bits among 16, how many)."""
        positions = T.ramp(tirx.const(0, "uint16"), tirx.const(1, "uint16"), APPENDED)
        single = T.bitwise_and(
            T.shift_right(T.broadcast(bits, APPENDED), positions), tir.constant("uint16", APPENDED, 1)
        )
        is_set, zeros = single > tir.constant("uint16", APPENDED, 0), tir.constant("int32", APPENDED, 0)
        together = T.call_llvm_pure_intrin("int32x16", "llvm.x86.avx512.mask.compress", numbers, zeros, is_set)
        return together, T.popcount(bits)

    def _of_byte(self, byte: Expr, numbers: Expr) -> tuple[Expr, Expr]:
        """(the numbers of the set bits among 8, how many)."""
        value = tir.variable("int64", T.cast(byte, "int64"))[0]
        positions = self.table[tir.lanes(value * BYTE, BYTE)]
        return tir.cast(self.slabs.dtype, BYTE, positions) + numbers, self.table[VALUES_OF_BYTE * BYTE + value]


class _End:
    """Where a list ends, and the numbers of the rows that come next: vectors that go on by constants."""

    def __init__(self, slabs: SharedSlabs, first: Expr) -> None:
        self.at = tir.variable("int64", first)
        self.dtype, self.lanes = slabs.dtype, APPENDED if slabs.tools.has_compress else BYTE
        self._numbers, self._all = tir.local(self.lanes, self.dtype), tir.lanes(0, self.lanes)
        zeros = tir.constant(self.dtype, self.lanes, 0)
        tir.store(self._numbers, self._all, T.ramp(0, 1, self.lanes) if slabs.tools.has_compress else zeros)

    @property
    def numbers(self) -> Expr:
        """Of the next bits; where a table adds the positions, all that of the first."""
        return self._numbers[self._all]

    def advance(self, appended: Expr, num_bits: int) -> None:
        """So many entries behind, and so many bits on."""
        tir.store(self.at, 0, self.at[0] + T.cast(appended, "int64"))
        tir.store(self._numbers, self._all, self.numbers + tir.constant(self.dtype, self.lanes, num_bits))
