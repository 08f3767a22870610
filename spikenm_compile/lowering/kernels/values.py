"""Reading and writing one value of any layout, and loops over all of them."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from tvm import tirx

from spikenm_compile.lowering import tir
from spikenm_compile.lowering.layout import WORD, Bits, Layout
from spikenm_compile.lowering.tir import Buffer, Expr, T

Operation = Literal["add", "sub", "mul", "div", "maximum"]

OPERATIONS: Mapping[Any, Operation] = {
    operator.add: "add",
    operator.sub: "sub",
    operator.mul: "mul",
    operator.truediv: "div",
    torch.maximum: "maximum",
}
"""Function of a lowered graph -> its operation."""

INFINITY_BITS = 0x7F800000
"""Of infinity; above it, but for the sign, begin those of NaN."""


@dataclass(frozen=True)
class Operand:
    """A value that a kernel reads."""

    layout: Layout
    is_static: bool
    """Whether it is the same at each step, and so stored once."""

    def time(self, t: Expr) -> Expr:
        """Where step t is stored."""
        return T.int32(0) if self.is_static else t


@contextmanager
def loop(layout: Layout, num_steps: Expr) -> Iterator[tuple[Expr, Expr, Expr, Expr]]:
    """Loops over (t, y, x, c) of `layout`."""
    with T.serial(num_steps) as t, T.serial(layout.height) as y, T.serial(layout.width) as x:
        with T.serial(layout.channels) as c:
            yield t, y, x, c


def read(layout: Layout, buffer: Buffer, t: Expr, y: Expr, x: Expr, c: Expr, dtype: str) -> Expr:
    """One value as `dtype`."""
    at = layout.element(t, y, x, c)
    if isinstance(layout, Bits):
        planes = (buffer[at + plane * layout.words] for plane in range(layout.most))
        bits = (T.shift_right(word, T.cast(c % WORD, "uint64")) & T.uint64(1) for word in planes)
        # Where CPUs have no instruction from 64 bits to float, a function would be called that libraries do not have.
        return T.cast(functools.reduce(operator.add, (T.cast(bit, "int32") for bit in bits)), dtype)
    return T.cast(buffer[at], dtype)


def apply(operation: Operation, left: Expr, right: Expr) -> Expr:
    """The operation on two scalars; a maximum is NaN where one of them is, as in torch.maximum.

    TVM takes `left == left` for true, so that NaN is told from its bits.
    """
    if operation == "add":
        return left + right
    if operation == "sub":
        return left - right
    if operation == "mul":
        return left * right
    if operation == "div":
        return left / right
    if str(left.ty) != "float32":
        return tir.select(left > right, left, right)
    bits = T.reinterpret("uint32", left) & T.uint32(0x7FFFFFFF)
    return tir.select(tirx.any(left > right, bits > T.uint32(INFINITY_BITS)), left, right)


def build_convert(name: str, source: Operand, target: Layout) -> list[tirx.PrimFunc]:
    """Kernel `(source, target, num_steps)`: the same values in another layout, which is not Bits."""
    functions = list[tirx.PrimFunc]()
    params = [tir.Param("source", source.layout.dtype), tir.Param("target", target.dtype)]
    with tir.kernel(name, params, functions) as ((values, out), num_steps), loop(target, num_steps) as (t, y, x, c):
        value = read(source.layout, values, source.time(t), y, x, c, target.dtype)
        tir.store(out, target.element(t, y, x, c), value)
    return functions
