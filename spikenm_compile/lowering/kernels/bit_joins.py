"""Joins of spikes, 64 at a time. Bits behind the last channel and in the halo stay zero.

a * b    a & b
1 - a    ~a, of the channels that there are
"""

from __future__ import annotations

from tvm import tirx

from spikenm_compile.lowering import tir
from spikenm_compile.lowering.kernels.values import Operand, loop, read
from spikenm_compile.lowering.layout import WORD, Bits, Floats
from spikenm_compile.lowering.tir import Expr, T


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


def build_pack(name: str, x: Operand, out: Bits) -> list[tirx.PrimFunc]:
    """Kernel `(x, out, num_steps)`: spikes where `x`, of any layout, is not zero."""
    functions = list[tirx.PrimFunc]()
    params = [tir.Param("x", x.layout.dtype), tir.Param("out", "uint64")]
    with tir.kernel(name, params, functions) as ((values, bits), num_steps):
        with loop(_words(out), num_steps) as (t, row, column, i):
            word = tir.variable("uint64", T.uint64(0))
            with T.serial(tirx.min(WORD, out.channels - i * WORD)) as bit:
                value = read(x.layout, values, x.time(t), row, column, i * WORD + bit, "float32")
                spike = tir.select(tir.equal(value, T.float32(0)), T.uint64(0), T.uint64(1))
                tir.store(word, 0, word[0] | T.shift_left(spike, T.cast(bit, "uint64")))
            tir.store(bits, out.at(t, row, column) + i, word[0])
    return functions


def _words(bits: Bits) -> Floats:
    """A layout with an element for each word of a pixel, to loop over."""
    return Floats(bits.height, bits.width, bits.pixel)


def _at(operand: Operand, t: Expr, row: Expr, column: Expr) -> Expr:
    return operand.layout.at(operand.time(t), row, column)
