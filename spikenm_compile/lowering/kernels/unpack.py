"""Spikes and small counts to bytes, eight at a time.

spread    byte i of a word  =  bit i of a byte of spikes, at place i       multiplication by 0x01...01, and mask
level     1 where it is not zero                                           + 0x7F, whose carry is bit 7
"""

from __future__ import annotations

from tvm import tirx

from spikenm_compile.lowering import tir
from spikenm_compile.lowering.kernels.values import Operand, loop, read
from spikenm_compile.lowering.layout import WORD, Bits, Bytes, Floats
from spikenm_compile.lowering.tir import Buffer, Expr, T

ONES = 0x0101010101010101
ELSEWHERE = 0x7FBFDFEFF7FBFDFE
"""All but the places: TVM takes no constant above 2^63."""
SEVEN_BITS = 0x7F7F7F7F7F7F7F7F


def build_unpack(name: str, spikes: Operand, out: Bytes) -> list[tirx.PrimFunc]:
    """Kernel `(spikes, out, num_steps)`: spikes of layout Bits as bytes."""
    functions = list[tirx.PrimFunc]()
    params = [tir.Param("spikes", "uint64"), tir.Param("out", out.dtype)]
    with tir.kernel(name, params, functions) as ((words, levels), num_steps):
        eights = Floats(out.height, out.width, out.channels // 8)
        if eights.channels:
            with loop(eights, num_steps) as (t, y, x, i):
                value = T.reinterpret(tir.vector(out.dtype, 8), _eight(spikes, words, t, y, x, i))
                tir.store(levels, tir.lanes(out.at(t, y, x) + i * 8, 8), value)
        if out.channels % 8:
            with loop(Floats(out.height, out.width, out.channels % 8), num_steps) as (t, y, x, i):
                c = out.channels // 8 * 8 + i
                value = read(spikes.layout, words, spikes.time(t), y, x, c, out.dtype)
                tir.store(levels, out.element(t, y, x, c), value)
    return functions


def _eight(spikes: Operand, words: Buffer, t: Expr, y: Expr, x: Expr, i: Expr) -> Expr:
    """Levels of the channels 8i .. 8i + 7, a byte each of a uint64; the sum over the planes of counts."""
    layout = spikes.layout
    assert isinstance(layout, Bits)
    first = layout.at(spikes.time(t), y, x) + i // (WORD // 8)
    total = T.uint64(0)
    for plane in range(layout.most):
        eight = T.shift_right(words[first + plane * layout.words], T.cast(i % (WORD // 8) * 8, "uint64"))
        spread = (eight & T.uint64(255)) * T.uint64(ONES) & T.bitwise_not(T.uint64(ELSEWHERE))
        total = total + (T.shift_right(spread + T.uint64(SEVEN_BITS), T.uint64(7)) & T.uint64(ONES))
    return total
