"""The few words of TIR that the kernels are written in, and the way from TIR to plain C functions.

A kernel is a `PrimFunc` over raw pointers, `int32_t name(T0*, T1*, ..., int32_t num_steps)`: no TVM runtime symbol is
left in the object file. Float arithmetic that a kernel shares with the reference goes through `fence`: TVM lets LLVM
contract a·b + c into one rounding, which would change the last bit.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tvm
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T

__all__ = ["Buffer", "Expr", "Param", "T"]

Expr = Any
"""A TIR expression."""
Buffer = Any
"""A TIR buffer."""

UNKNOWN_LENGTH = 2**30
"""Extent of a buffer behind a pointer: the kernels' loops, not the declaration, bound every access."""

PIPELINE = "spikenm_plain_c"


@dataclass(frozen=True)
class Param:
    """A pointer parameter of a kernel."""

    name: str
    dtype: str


@contextmanager
def kernel(name: str, params: Sequence[Param], result: list[tirx.PrimFunc]) -> Iterator[tuple[list[Buffer], Expr]]:
    """Open a kernel's body: yields a buffer for each parameter, and num_steps; the function is appended to `result`."""
    with IRBuilder() as builder:
        with T.prim_func(s_tir=True):
            T.func_name(name)
            T.func_attr({"global_symbol": name, "calling_conv": 2, "tirx.noalias": True})
            T.func_ret(tvm.ir.PrimType("int32"))
            pointers = [T.arg(p.name, T.handle(p.dtype)) for p in params]
            num_steps = T.arg("num_steps", T.int32())
            yield [_behind(pointer, p.dtype) for pointer, p in zip(pointers, params, strict=True)], num_steps
        result.append(builder.get())


def _behind(pointer: Expr, dtype: str) -> Buffer:
    # align = element size: callers promise no more, and TVM would otherwise assume 64 bytes and emit aligned moves.
    return T.decl_buffer((UNKNOWN_LENGTH,), dtype, data=pointer, align=bytes_of(dtype))


def bytes_of(dtype: str) -> int:
    """Size of one element."""
    return int("".join(c for c in dtype if c.isdigit())) // 8


def local(size: int, dtype: str) -> Buffer:
    """An array in registers or on the stack; below TVM's limit of 1 KiB for stack arrays."""
    assert size * bytes_of(dtype) < 1024, f"local array of {size} {dtype} would go to the heap"
    return T.alloc_buffer((size,), dtype)


def variable(dtype: str, value: Expr) -> Buffer:
    """A scalar that loops may change: read it as `name[0]`."""
    buffer = local(1, dtype)
    T.buffer_store(buffer, value, [0])
    return buffer


def store(buffer: Buffer, index: Expr, value: Expr) -> None:
    """`buffer[index] = value`."""
    T.buffer_store(buffer, value, [index])


def lanes(start: Expr, count: int) -> Expr:
    """Index of `count` consecutive elements from `start`."""
    return start if count == 1 else T.ramp(start, 1, count)


def strided(start: Expr, step: int, count: int) -> Expr:
    """Index of `count` elements from `start`, each `step` behind the one before."""
    return start if count == 1 else T.ramp(start, step, count)


def vector(dtype: str, count: int) -> str:
    """Name of the type of `count` elements."""
    return dtype if count == 1 else f"{dtype}x{count}"


def named(value: Expr) -> Expr:
    """A value that is computed here and once, however often it is read; one in an array might be stored for nothing."""
    return T.bind(value)


def part(vector: Expr, first: int, count: int) -> Expr:
    """Lanes first .. first + count of a vector."""
    return join([vector], range(first, first + count))


def join(vectors: Sequence[Expr], chosen: Sequence[int]) -> Expr:
    """The chosen lanes, counted over all of the vectors."""
    return tirx.Shuffle(vectors, [tirx.IntImm("int32", i) for i in chosen])


def cast(dtype: str, count: int, value: Expr) -> Expr:
    """Convert `count` lanes."""
    return T.cast(value, vector(dtype, count))


def constant(dtype: str, count: int, value: float) -> Expr:
    """The same constant in `count` lanes."""
    scalar = tirx.const(value, dtype)
    return scalar if count == 1 else T.broadcast(scalar, count)


def splat(value: Expr, count: int) -> Expr:
    """The same scalar in `count` lanes."""
    return value if count == 1 else T.broadcast(value, count)


def intrinsic(name: str, value: Expr, count: int) -> Expr:
    """A function of LLVM on `count` lanes of float32."""
    return T.call_llvm_pure_intrin(vector("float32", count), name, value)


def fence(value: Expr, count: int) -> Expr:
    """Keep the rounding of `value`: nothing behind the fence is contracted with it."""
    return intrinsic("llvm.arithmetic.fence", value, count)


def equal(a: Expr, b: Expr) -> Expr:
    """Lane-wise a == b, false for NaN. There is no `unequal`: that of TVM is false for NaN too."""
    return tirx.EQ(a, b)


def select(condition: Expr, yes: Expr, no: Expr) -> Expr:
    """Lane-wise choice; both sides are computed."""
    return tirx.Select(condition, yes, no)


def word(bits: int) -> Expr:
    """A constant uint64; one that is no int64 TVM takes only as the negative number of the same bits."""
    return T.uint64(bits) if bits < 2**63 else T.reinterpret("uint64", T.int64(bits - 2**64))


def trailing_zeros(word: Expr) -> Expr:
    """Position of the lowest set bit of a uint64 that is not 0, as int32."""
    return T.cast(T.call_llvm_pure_intrin("uint64", "llvm.cttz", word, tirx.IntImm("bool", 1)), "int32")


def round_half_even(value: Expr, count: int = 1) -> Expr:
    """Nearest whole number of `count` lanes of float32, ties to even.

    By adding 2^23 with the value's sign, above which float32 holds whole numbers only: LLVM's own rounding is a call of
    libm where the CPU has no instruction for it. The fence keeps TVM from cancelling what is added and taken away.
    """
    magic = constant("float32", count, 2.0**23)
    signed = select(value < constant("float32", count, 0.0), constant("float32", count, -(2.0**23)), magic)
    return select(intrinsic("llvm.fabs", value, count) < magic, fence(value + signed, count) - signed, value)


def truncate(value: Expr, count: int = 1) -> Expr:
    """Whole number of `count` lanes of float32 towards zero; from 2^23 on every float32 is one."""
    whole = cast("float32", count, cast("int32", count, value))
    return select(intrinsic("llvm.fabs", value, count) < constant("float32", count, 2.0**23), whole, value)


@tirx.transform.prim_func_pass(opt_level=0)
class _AddDevice:
    """Name the device, which LowerTVMBuiltin asks for."""

    def transform_function(self, func: tirx.PrimFunc, _module: tvm.IRModule, _context: object) -> tirx.PrimFunc:
        body = tirx.AttrStmt("default", "device_type", tirx.IntImm("int32", 1), func.body)
        return func.with_body(tirx.AttrStmt("default", "device_id", tirx.IntImm("int32", 0), body))


@tirx.transform.prim_func_pass(opt_level=0)
class _AddReturn:
    """Return 0; and drop the entry mark, which would emit a second, packed entry point."""

    def transform_function(self, func: tirx.PrimFunc, _module: tvm.IRModule, _context: object) -> tirx.PrimFunc:
        func = func.without_attr("tirx.is_entry_func")
        return func.with_body(tirx.SeqStmt([func.body, tirx.Return(tirx.IntImm("int32", 0))]))


def _plain_c_pipeline() -> tuple[Any, Callable[[], Any], Any]:
    host, _, device = tirx.get_tir_pipeline("s_tir")
    steps = [_AddDevice(), tirx.transform.LowerTVMBuiltin(), _AddReturn(), tirx.transform.LowerIntrin()]
    return host, lambda: tvm.ir.transform.Sequential(steps), device


tirx.register_tir_pipeline(PIPELINE, _plain_c_pipeline)


def compile_functions(functions: Sequence[tirx.PrimFunc], tvm_target: dict[str, Any]) -> Any:
    """Compile to a TVM module that can be written as an object file or printed as assembly."""
    module = tvm.IRModule({f.attrs["global_symbol"]: f for f in functions})
    with tvm.target.Target(tvm_target):  # operations of our own become instructions of it
        return tirx.build(module, target=tvm_target, pipeline=PIPELINE)


def write_object(module: Any, path: Path) -> None:
    """Write an object file that asks its linker for no more than the functions need, and offers no more than they are.

    TVM has no words for two facts, so that they are told in LLVM's own text; machine code stays as it is.

    No exception passes through C: LLVM finds that out by itself for functions that call no others. For the rest it
    would write tables for 32-bit ARM that name `__aeabi_unwind_cpp_pr0` of the C++ runtime.

    The half-float helpers that TVM adds are for this module: as weak functions they could take the place of libgcc's in
    a program, and on x86-64 those pass half floats in other registers.
    """
    text = re.sub(r"^(attributes #\d+ = \{)", r"\1 nounwind", str(module.inspect_source("ll")), flags=re.MULTILINE)
    text = re.sub(r"^define weak dso_local", "define internal", text, flags=re.MULTILINE)
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "functions.ll"
        source.write_text(text)
        tvm.runtime.load_module(str(source)).write_to_file(str(path))
