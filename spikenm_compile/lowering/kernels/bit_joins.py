"""Joins of spikes and small counts, 64 at a time. Bits behind the last channel and in the halo stay zero.

a * b    a & b
1 - a    ~a, of the channels that there are
a + b    a, raised by one for each plane of b
"""

from __future__ import annotations

import itertools

from tvm import tirx

from spikenm_compile.lowering import tir
from spikenm_compile.lowering.kernels.values import Operand, loop, read
from spikenm_compile.lowering.layout import WORD, Bits, Floats, Layout
from spikenm_compile.lowering.tir import Buffer, Expr, T


def build_and(name: str, a: Operand, b: Operand, out: Bits) -> list[tirx.PrimFunc]:
    """Kernel `(a, b, out, num_steps)`: spikes where both operands, of layout Bits, spike."""
    functions = list[tirx.PrimFunc]()
    params = [tir.Param(param, "uint64") for param in ("a", "b", "out")]
    with tir.kernel(name, params, functions) as ((left, right, joined), num_steps):
        with loop(_words(out), num_steps) as (t, row, column, i):
            both = left[_at(a, t, row, column) + i] & right[_at(b, t, row, column) + i]
            tir.store(joined, out.at(t, row, column) + i, both)
    return functions


def build_not(name: str, x: Operand, out: Bits) -> list[tirx.PrimFunc]:
    """Kernel `(x, out, num_steps)`: spikes where `x`, of layout Bits, is silent."""
    functions = list[tirx.PrimFunc]()
    params = [tir.Param("x", "uint64"), tir.Param("out", "uint64")]
    with tir.kernel(name, params, functions) as ((words, complement), num_steps):
        with loop(Floats(out.height, out.width, 1), num_steps) as (t, row, column, _):
            for i in range(out.pixel):
                missing = max(0, (i + 1) * WORD - out.channels)
                channels = T.shift_right(T.bitwise_not(T.uint64(0)), T.uint64(missing))
                silent = T.bitwise_xor(words[_at(x, t, row, column) + i], channels)
                tir.store(complement, out.at(t, row, column) + i, silent)
    return functions


def build_sum(name: str, a: Operand, b: Operand, out: Bits) -> list[tirx.PrimFunc]:
    """Kernel `(a, b, out, num_steps)`: sums of operands of layout Bits."""
    functions = list[tirx.PrimFunc]()
    params = [tir.Param(param, "uint64") for param in ("a", "b", "out")]
    with tir.kernel(name, params, functions) as ((left, right, joined), num_steps):
        with loop(Floats(out.height, out.width, out.words), num_steps) as (t, row, column, i):
            count = UnaryCounts(out)
            for operand, words in ((a, left), (b, right)):
                count.add_all(operand.layout, words, _at(operand, t, row, column) + i)
            count.write(joined, out.at(t, row, column) + i)
    return functions


class UnaryCounts:
    """The counts of 64 channels, zero at first, in unary: bits of plane j are set where a count is above j."""

    def __init__(self, out: Bits) -> None:
        self.out = out
        self.planes = [tir.variable("uint64", T.uint64(0)) for _ in range(out.most)]

    def add(self, spikes: Expr) -> None:
        """One more for each of 64 spikes; counts stay below `out.most`."""
        for higher, lower in itertools.pairwise(reversed(self.planes)):
            tir.store(higher, 0, higher[0] | lower[0] & spikes)
        tir.store(self.planes[0], 0, self.planes[0][0] | spikes)

    def add_all(self, layout: Layout, words: Buffer, at: Expr) -> None:
        """Counts of a layout Bits, whose first plane has its word at `at`."""
        assert isinstance(layout, Bits)
        for plane in range(layout.most):
            word = tir.variable("uint64", words[at + plane * layout.words])
            self.add(word[0])

    def write(self, words: Buffer, at: Expr) -> None:
        """To the planes of `out`, of which the first has its word at `at`."""
        for number, plane in enumerate(self.planes):
            tir.store(words, at + number * self.out.words, plane[0])


def build_pack(name: str, x: Operand, out: Bits) -> list[tirx.PrimFunc]:
    """Kernel `(x, out, num_steps)`: spikes where `x`, of any layout, is not zero; of counts, `x` in unary."""
    functions = list[tirx.PrimFunc]()
    params = [tir.Param("x", x.layout.dtype), tir.Param("out", "uint64")]
    with tir.kernel(name, params, functions) as ((values, bits), num_steps):
        with loop(Floats(out.height, out.width, out.words), num_steps) as (t, row, column, i):
            planes = [tir.variable("uint64", T.uint64(0)) for _ in range(out.most)]
            with T.serial(tirx.min(WORD, out.channels - i * WORD)) as bit:
                c = i * WORD + bit
                value = tir.variable("float32", read(x.layout, values, x.time(t), row, column, c, "float32"))
                for number, plane in enumerate(planes):
                    is_silent = tir.equal(value[0], T.float32(0)) if out.most == 1 else value[0] <= T.float32(number)
                    spike = tir.select(is_silent, T.uint64(0), T.uint64(1))
                    tir.store(plane, 0, plane[0] | T.shift_left(spike, T.cast(bit, "uint64")))
            for number, plane in enumerate(planes):
                tir.store(bits, out.at(t, row, column) + number * out.words + i, plane[0])
    return functions


def _words(bits: Bits) -> Floats:
    """A layout with an element for each word of a pixel, to loop over."""
    return Floats(bits.height, bits.width, bits.pixel)


def _at(operand: Operand, t: Expr, row: Expr, column: Expr) -> Expr:
    return operand.layout.at(operand.time(t), row, column)
