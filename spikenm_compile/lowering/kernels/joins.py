"""Joins of two values, and the readout over time."""

from __future__ import annotations

from tvm import tirx

from spikenm_compile.lowering import tir
from spikenm_compile.lowering.kernels.values import Operand, Operation, apply, loop, read
from spikenm_compile.lowering.layout import Bytes, Floats, Layout
from spikenm_compile.lowering.tir import T


def build_join(name: str, operation: Operation, a: Operand, b: Operand, out: Layout) -> list[tirx.PrimFunc]:
    """Kernel `(a, b, out, num_steps)`: element by element; whole numbers where `out` is Bytes, else float32."""
    functions = list[tirx.PrimFunc]()
    params = [tir.Param("a", a.layout.dtype), tir.Param("b", b.layout.dtype), tir.Param("out", out.dtype)]
    compute = "int32" if isinstance(out, Bytes) else "float32"
    with tir.kernel(name, params, functions) as ((left, right, joined), num_steps):
        with loop(out, num_steps) as (t, y, x, c):
            first = read(a.layout, left, a.time(t), y, x, c, compute)
            second = read(b.layout, right, b.time(t), y, x, c, compute)
            tir.store(joined, out.element(t, y, x, c), T.cast(apply(operation, first, second), out.dtype))
    return functions


def build_with_scalar(
    name: str, operation: Operation, x: Operand, number: float, out: Layout, *, is_left: bool
) -> list[tirx.PrimFunc]:
    """Kernel `(x, out, num_steps)`: out = operation(x, number), or operation(number, x) unless `is_left`; float32."""
    functions = list[tirx.PrimFunc]()
    constant = tir.constant("float32", 1, number)
    with tir.kernel(name, [tir.Param("x", "float32"), tir.Param("out", "float32")], functions) as (pair, num_steps):
        values, result = pair
        with loop(out, num_steps) as (t, row, column, c):
            value = read(x.layout, values, x.time(t), row, column, c, "float32")
            sides = (value, constant) if is_left else (constant, value)
            tir.store(result, out.element(t, row, column, c), apply(operation, *sides))
    return functions


def build_accumulate(name: str, operation: Operation, x: Operand, size: Floats) -> list[tirx.PrimFunc]:
    """Kernel `(accumulator, x, num_steps)`: accumulator = operation(accumulator, x[t]) for each t in turn."""
    functions = list[tirx.PrimFunc]()
    params = [tir.Param("accumulator", "float32"), tir.Param("x", x.layout.dtype)]
    with tir.kernel(name, params, functions) as ((accumulator, values), num_steps):
        with loop(size, num_steps) as (t, row, column, c):
            at = size.element(0, row, column, c)
            value = read(x.layout, values, x.time(t), row, column, c, "float32")
            tir.store(accumulator, at, apply(operation, accumulator[at], value))
    return functions


def build_over_steps(name: str, operation: Operation, size: Floats) -> list[tirx.PrimFunc]:
    """Kernel `(x, out, num_steps)`: out = operation(x, num_steps), for the mean over time."""
    functions = list[tirx.PrimFunc]()
    params = [tir.Param("x", "float32"), tir.Param("out", "float32")]
    with tir.kernel(name, params, functions) as ((x, out), num_steps), T.serial(size.step) as i:
        tir.store(out, i, apply(operation, x[i], T.cast(num_steps, "float32")))
    return functions


def build_last(name: str, x: Operand, out: Floats) -> list[tirx.PrimFunc]:
    """Kernel `(x, out, num_steps)`: the value of the last step."""
    functions = list[tirx.PrimFunc]()
    with tir.kernel(name, [tir.Param("x", x.layout.dtype), tir.Param("out", "float32")], functions) as (
        pair,
        num_steps,
    ):
        values, last = pair
        with loop(out, 1) as (_, row, column, c):
            value = read(x.layout, values, x.time(num_steps - 1), row, column, c, "float32")
            tir.store(last, out.element(0, row, column, c), value)
    return functions
