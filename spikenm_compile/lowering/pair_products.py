"""Products of pairs of numbers, added two by two: `a0 · b0 + a1 · b1` in each lane, one instruction on x86-64.

TVM's TIR has no word for it, and LLVM finds the instruction in no expression of others. So it is an operation of our
own, which becomes instructions when the target is known: `pmaddwd` on x86-64, elsewhere two multiply-adds, which LLVM
finds on ARM.
"""

from __future__ import annotations

import tvm
import tvm_ffi
from tvm import tirx

from spikenm_compile.lowering import tir
from spikenm_compile.lowering.tir import Expr, T

NAME = "tirx.spikenm_pair_products"
WORD_BITS = 16
X86_INSTRUCTIONS = {512: "llvm.x86.avx512.pmaddw.d.512", 256: "llvm.x86.avx2.pmadd.wd", 128: "llvm.x86.sse2.pmadd.wd"}
"""Bits of a vector -> LLVM's name."""
X86_VECTORS = {"x86-64-v4": 512, "x86-64-v3": 256}
"""LLVM's name of a CPU -> bits of its vectors, where these are not 128."""


def pair_products(pairs: Expr, first: Expr, second: Expr, count: int) -> Expr:
    """`pairs[2i] · first + pairs[2i + 1] · second` for each i < count, as int32: exact.

    Args:
        pairs: int16, 2 · count lanes.
        first: int32 scalar within int16.
        second: int32 scalar within int16.
        count: a multiple of 16.
    """
    return tirx.call_intrin(tir.vector("int32", count), NAME, pairs, first, second)


def _lower(call: Expr) -> Expr:
    """The operation as instructions of the current target."""
    pairs, first, second = call.args
    count = call.ty.dtype.lanes
    target = tvm.target.Target.current()
    if "x86_64" not in str(target.attrs["mtriple"]):
        terms = (_every_second(pairs, i, count) * tir.splat(x, count) for i, x in enumerate((first, second)))
        return next(terms) + next(terms)
    bits = X86_VECTORS.get(str(target.attrs["mcpu"]), 128)
    both = T.bitwise_or(T.bitwise_and(first, T.int32(0xFFFF)), T.shift_left(second, T.int32(WORD_BITS)))
    words = bits // WORD_BITS
    factor = T.reinterpret(tir.vector("int16", words), tir.splat(both, words // 2))
    parts = [
        T.call_llvm_pure_intrin(
            tir.vector("int32", words // 2), X86_INSTRUCTIONS[bits], _lanes(pairs, at, words), factor
        )
        for at in range(0, 2 * count, words)
    ]
    return tirx.Shuffle(parts, _indices(range(count)))


def _every_second(pairs: Expr, first: int, count: int) -> Expr:
    return tir.cast("int32", count, tirx.Shuffle([pairs], _indices(range(first, 2 * count, 2))))


def _lanes(vector: Expr, first: int, count: int) -> Expr:
    return tirx.Shuffle([vector], _indices(range(first, first + count)))


def _indices(numbers: range) -> list[Expr]:
    return [tirx.IntImm("int32", number) for number in numbers]


tvm_ffi.get_global_func("ir.RegisterOp")(NAME, "a0 * b0 + a1 * b1 of pairs")
tvm.ir.register_op_attr(NAME, "TScriptPrinterName", "spikenm_pair_products")
tvm.ir.register_op_attr(NAME, "TCallEffectKind", tirx.CallEffectKind.Pure.value)
tirx.register_intrin_lowering(NAME, "llvm", f=_lower)
