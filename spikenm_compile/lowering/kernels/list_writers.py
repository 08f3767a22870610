"""How spikes of one word of a pixel are appended to event lists: one list, or one for each class (lowering.stagger)
or group of channels.

Where classes repeat from word to word, a word's bits of each class, one of every K', are put together first. Else a
loop runs over the spikes, whose length nobody can foresee.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from spikenm_compile.lowering import tir
from spikenm_compile.lowering.kernels.bit_positions import BYTE, BitPositions
from spikenm_compile.lowering.layout import WORD
from spikenm_compile.lowering.stagger import Stagger
from spikenm_compile.lowering.tir import Buffer, Expr, T

OfSpike = Callable[[Expr, Expr, Expr], Expr]
"""Of the spike of channel c of the pixel (y, x)."""


class ListWriter(ABC):
    """Writer of `events`, of which `count[number]` is where list `number` ends; to be made outside of all loops.

    Args:
        dtype: of an event.
    """

    def __init__(self, events: Buffer, count: Buffer, dtype: str) -> None:
        self.events, self.count, self.dtype = events, count, dtype

    @abstractmethod
    def append(self, word: Expr, y: Expr, x: Expr, number: Expr) -> None:
        """Append the spikes of a pixel's word of that number, some of which are not silent."""


class WordWriter(ListWriter):
    """One list.

    Args:
        stride: by how much the events of neighbours in a row differ.
    """

    def __init__(self, events: Buffer, count: Buffer, dtype: str, stride: int) -> None:
        super().__init__(events, count, dtype)
        self.stride = stride
        self.positions = BitPositions(dtype)

    def append(self, word: Expr, y: Expr, x: Expr, number: Expr) -> None:
        """All bits of the word."""
        self._append(word, T.int32(0), x * self.stride + number * WORD, WORD)

    def _append(self, bits: Expr, of_list: Expr, first: Expr, num_bits: int) -> None:
        at = T.cast(self.count[of_list], "int64")
        end = self.positions.append(bits, self.events, at, first, -(-num_bits // BYTE))
        tir.store(self.count, of_list, T.cast(end, "int32"))


class ClassWriter(WordWriter):
    """A list for each class, where classes repeat from word to word (`Stagger.repeats`)."""

    def __init__(self, events: Buffer, count: Buffer, dtype: str, stride: int, stagger: Stagger) -> None:
        super().__init__(events, count, dtype, stride)
        self.stagger = stagger

    def append(self, word: Expr, y: Expr, x: Expr, number: Expr) -> None:
        """The bits of each class, put together."""
        classes = self.stagger.classes
        num_bits = WORD // classes
        for residue in range(classes):
            bits = tir.named(word & tir.word(self.stagger.bits_of(residue)))
            of_list = tir.named(self.stagger.class_of_bits(residue, y, x, number))
            self._append(_together(bits, classes), of_list, x * self.stride + number * num_bits, num_bits)


class BitWriter(ListWriter):
    """A list for each class, spike by spike.

    Args:
        class_of: the list that the spike of channel c of pixel (y, x) belongs to.
        event: what stands there for it.
    """

    def __init__(self, events: Buffer, count: Buffer, dtype: str, class_of: OfSpike, event: OfSpike) -> None:
        super().__init__(events, count, dtype)
        self.class_of, self.event = class_of, event
        self.rest = tir.variable("uint64", T.uint64(0))

    def append(self, word: Expr, y: Expr, x: Expr, number: Expr) -> None:
        """The lowest bit, until there is none."""
        tir.store(self.rest, 0, word)
        with T.While(self.rest[0] != T.uint64(0)):
            c = number * WORD + tir.trailing_zeros(self.rest[0])
            of_list = self.class_of(y, x, c)
            tir.store(self.events, self.count[of_list], T.cast(self.event(y, x, c), self.dtype))
            tir.store(self.count, of_list, self.count[of_list] + 1)
            tir.store(self.rest, 0, self.rest[0] & (self.rest[0] - T.uint64(1)))


def _together(bits: Expr, apart: int) -> Expr:
    """Bit i of the result is set where a bit of i · apart .. i · apart + apart - 1 is; `apart` is a power of two."""
    step = 1
    while step < apart:
        bits = tir.named(bits | T.shift_right(bits, T.uint64(step)))
        step *= 2
    width = 1
    bits = tir.named(bits & tir.word(_runs(width, apart)))
    while apart < WORD:
        joined = bits | T.shift_right(bits, T.uint64(apart - width))
        apart, width = 2 * apart, 2 * width
        bits = tir.named(joined & tir.word(_runs(width, apart)))
    return bits


def _runs(width: int, apart: int) -> int:
    """A word with `width` bits set from every multiple of `apart` on."""
    return sum((2**width - 1) << first for first in range(0, WORD, apart))
