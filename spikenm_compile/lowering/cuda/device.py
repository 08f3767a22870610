"""The few words of tirx that CUDA kernels are written in, and the way from tirx to CUDA source.

A kernel is `extern "C" __global__ void name(T0*, T1*, ..., int batch)`. TVM orders the parameters itself: their
order is read from the source. It generates source only: nothing here needs a GPU or a CUDA compiler.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import tvm
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T

from spikenm_compile.lowering.cuda.generated import WARP, GeneratedKernel, Grid

__all__ = ["Buffer", "Expr", "T"]

Expr = Any
"""An expression of tirx."""
Buffer = Any
"""A buffer of tirx."""

UNKNOWN_LENGTH = 2**30
"""Extent of a buffer behind a pointer."""
ALL_LANES = 0xFFFFFFFF
ARCH = "sm_80"
"""What TVM generates for; the source holds nothing that later GPUs lack."""


@dataclass
class Body:
    """What stands at hand inside of a kernel."""

    name: str
    grid: Grid
    block: int
    buffers: dict[str, Buffer]
    batch: Expr
    tile: Expr
    """blockIdx.x within the blocks of the same samples."""
    samples: Expr
    """First sample of this block."""
    row: Expr
    """blockIdx.y."""
    thread: Expr
    shared_words: int = 0
    number: Expr | None = None
    result: list[GeneratedKernel] = field(default_factory=list)

    @property
    def kernel(self) -> GeneratedKernel:
        """The kernel, after its body was left."""
        return self.result[0]


@contextmanager
def kernel(
    name: str, params: dict[str, str], grid: Grid, block: int, *, shared_words: int = 0, number: str | None = None
) -> Iterator[Body]:
    """Open a kernel's body.

    Args:
        name: of the function.
        params: pointers, name -> dtype.
        grid: blocks.
        block: threads of a block.
        shared_words: words of the buffer `shared`.
        number: name of a float parameter.
    """
    with IRBuilder() as builder:
        with T.prim_func():
            T.func_name(name)
            T.func_attr({"global_symbol": name})
            pointers = {p: T.arg(f"{p}_ptr", T.handle(dtype)) for p, dtype in params.items()}
            batch = T.arg("batch", T.int32())
            value = None if number is None else T.arg(number, T.float32())
            buffers = {p: _behind(p, pointers[p], dtype) for p, dtype in params.items()}
            T.device_entry()
            extent = (batch + (grid.samples - 1)) // grid.samples * grid.blocks
            x, y = (_named(n, v) for n, v in zip(("block", "row"), T.cta_id([extent, grid.rows]), strict=True))
            thread = _named("thread", T.thread_id([block]))
            if shared_words:
                buffers["shared"] = _named("shared", T.alloc_buffer((shared_words,), "uint32", scope="shared.dyn"))
            at = (x % grid.blocks, x // grid.blocks * grid.samples, y, thread)
            body = Body(name, grid, block, buffers, batch, *at, shared_words=shared_words, number=value)
            yield body
        body.result.append(_generate(body, builder.get()))


def _behind(name: str, pointer: Expr, dtype: str) -> Buffer:
    return _named(name, T.decl_buffer((UNKNOWN_LENGTH,), dtype, data=pointer))


def _named(name: str, value: Any) -> Any:
    IRBuilder.name(name, value)
    return value


def _generate(body: Body, prim_func: tirx.PrimFunc) -> GeneratedKernel:
    target = tvm.target.Target({"kind": "cuda", "arch": ARCH})
    module = tvm.compile(tvm.IRModule({body.name: prim_func}), target=target, tir_pipeline="tirx")
    source = module.mod.imports[0].inspect_source().replace(f"{body.name}_kernel", body.name)
    signature = re.search(rf"__global__ void [^;]*?\b{body.name}\(([^)]*)\)", source)
    assert signature is not None
    names = tuple(parameter.split()[-1].removesuffix("_ptr") for parameter in signature[1].split(","))
    return GeneratedKernel(body.name, source, names, body.grid, body.block, body.shared_words * 4)


def local(name: str, size: int, dtype: str) -> Buffer:
    """An array in registers: indices must be known once loops are unrolled."""
    return _named(name, T.alloc_local((size,), dtype))


def variable(name: str, dtype: str, value: Expr) -> Buffer:
    """A scalar that loops may change: read it as `name[0]`."""
    buffer = local(name, 1, dtype)
    store(buffer, 0, value)
    return buffer


def store(buffer: Buffer, index: Expr, value: Expr) -> None:
    """`buffer[index] = value`."""
    T.buffer_store(buffer, value, [index])


def copy_lanes(to: Buffer, at: Expr, source: Buffer, index: Expr, count: int) -> None:
    """Copy `count` consecutive elements as one vector; both ends are aligned to it."""
    if count == 1:
        store(to, at, source[index])
    else:
        store(to, T.ramp(at, 1, count), source[T.ramp(index, 1, count)])


@contextmanager
def when(*conditions: Expr) -> Iterator[None]:
    """A branch."""
    with T.If(tirx.all(*conditions) if len(conditions) > 1 else conditions[0]), T.Then():
        yield


def shared_out(thread: Expr, block: int, count: int) -> Iterator[Expr]:
    """Loop over 0..count-1, dealt out to the threads of the block."""
    rounds = -(-count // block)
    with T.serial(0, rounds) as turn:
        index = turn * block + thread
        if count % block:
            with when(index < count):
                yield index
        else:
            yield index


def copy_async(to: Buffer, at: Expr, source: Buffer, index: Expr, words: int) -> None:
    """Begin to copy 1, 2 or 4 words from global to shared memory."""
    cache = "cg" if words == 4 else "ca"
    copy = T.ptx[f"cp.async.{cache}.shared.global"]
    T.evaluate(copy(T.address_of(to[at]), T.address_of(source[index]), words * 4))


def commit() -> None:
    """Close a group of copies."""
    T.evaluate(T.ptx.cp.async_.commit_group())


def wait(groups: int) -> None:
    """Wait until at most so many groups of this thread's copies are under way."""
    T.evaluate(T.ptx.cp.async_.wait_group(groups))


def synchronize() -> None:
    """Barrier of the block."""
    T.evaluate(T.cuda.cta_sync())


def shuffle_xor(value: Expr, lanes: int) -> Expr:
    """The value of the lane whose number differs in these bits."""
    return T.cuda.__shfl_xor_sync(T.uint32(ALL_LANES), value, lanes, WARP)


def ballot(condition: Expr) -> Expr:
    """Word whose bit i is the condition in lane i."""
    return T.cuda.ballot_sync(T.uint32(ALL_LANES), T.cast(condition, "int32"))


def multiply(opcode: str, *registers: Sequence[Expr], metadata: Sequence[Expr] = ()) -> None:
    """A tensor core instruction on d, a, b, c and, where it is sparse, its metadata and selector."""
    T.evaluate(T.ptx[opcode](*(r for group in registers for r in group), *metadata))


def unrolled(*extents: int, body: Callable[..., None]) -> None:
    """Call `body` for every index at generation time, the last one fastest."""
    for flat in range(_product(extents)):
        indices = []
        for extent in reversed(extents):
            flat, index = divmod(flat, extent)
            indices.append(index)
        body(*reversed(indices))


def _product(extents: Sequence[int]) -> int:
    result = 1
    for extent in extents:
        result *= extent
    return result
