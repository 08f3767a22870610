"""The four C functions through which a native program is used, and the build of its object files.

    int32_t spikenm_prepare(const uint8_t* packed, uint8_t* params)
    int32_t spikenm_before | spikenm_steps | spikenm_after(          (`spikenm`: the program's prefix)
        const uint8_t* params, const float* input, uint8_t* state, uint8_t* arena, float* output, int32_t num_steps)

`params` and `arena` must be zero before `prepare` and before the first `before` or `steps`. Kernels and entries are
compiled to two objects: in one, LLVM could inline a kernel into its caller and then take the same arena bytes under two
types for different memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tvm
from tvm import tirx
from tvm.script.ir_builder import IRBuilder

from spikenm_compile.graph import Region
from spikenm_compile.lowering import tir
from spikenm_compile.lowering.program import Call, Choice, Place, Program, Space, Steps
from spikenm_compile.lowering.tir import Buffer, Expr, T

ENTRY_OF = {Region.BEFORE: "before", Region.STEP: "steps", Region.AFTER: "after"}
"""What the name of a region's function says behind the prefix."""
ARGUMENTS = {
    Space.PARAMS: "uint8",
    Space.INPUT: "float32",
    Space.STATE: "uint8",
    Space.ARENA: "uint8",
    Space.OUTPUT: "float32",
}


def build_objects(program: Program, tvm_target: dict[str, Any], directory: Path) -> tuple[Path, Path, str]:
    """Compile kernels and entries; returns both object files and the assembly of the kernels."""
    kernels = tir.compile_functions(program.functions, tvm_target)
    entries = tir.compile_functions(build_entries(program), tvm_target)
    paths = directory / "kernels.o", directory / "entries.o"
    tir.write_object(kernels, paths[0])
    tir.write_object(entries, paths[1])
    return *paths, str(kernels.inspect_source("asm"))


def build_entries(program: Program) -> list[tirx.PrimFunc]:
    """The entry functions."""
    entries = [_entry(f"{program.prefix}_{name}", program.calls[region]) for region, name in ENTRY_OF.items()]
    return [_prepare(program), *entries]


def entry_names(program: Program) -> list[str]:
    """Names of the four functions."""
    return [f"{program.prefix}_{name}" for name in ("prepare", *ENTRY_OF.values())]


def _prepare(program: Program) -> tirx.PrimFunc:
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        spaces, _ = _signature(f"{program.prefix}_prepare", {Space.PACKED: "uint8", Space.PARAMS: "uint8"}, ())
        for call in program.prepare:
            _call(call, spaces, T.int32(1))
        for source, target, count in program.copies:
            with T.serial(count * 4) as i:
                value = spaces[source.space][source.offset + i]
                tir.store(spaces[target.space], target.offset + i, value)
        T.evaluate(T.int32(0))
    return builder.get()


def _entry(name: str, calls: Sequence[Call | Choice]) -> tirx.PrimFunc:
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        spaces, (num_steps,) = _signature(name, ARGUMENTS, ("num_steps",))
        for call in calls:
            if isinstance(call, Choice):
                _choice(call, spaces, num_steps)
            else:
                _call(call, spaces, num_steps)
        T.evaluate(T.int32(0))
    return builder.get()


def _signature(
    name: str, arguments: dict[Space, str], scalars: tuple[str, ...]
) -> tuple[dict[Space, Buffer], list[Expr]]:
    """Open a plain C function; all parameters come before the first buffer declaration."""
    T.func_name(name)
    T.func_attr({"global_symbol": name, "calling_conv": 2})
    T.func_ret(tvm.ir.PrimType("int32"))
    pointers = {space: T.arg(space.value, T.handle(dtype)) for space, dtype in arguments.items()}
    numbers = [T.arg(scalar, T.int32()) for scalar in scalars]
    buffers = {
        space: T.decl_buffer((tir.UNKNOWN_LENGTH,), dtype, data=pointers[space], align=tir.bytes_of(dtype))
        for space, dtype in arguments.items()
    }
    return buffers, numbers


def _call(call: Call, spaces: dict[Space, Buffer], num_steps: Expr) -> None:
    steps = num_steps if call.steps is Steps.ALL else T.int32(1)
    arguments = [_address(place, spaces) for place in call.places]
    T.evaluate(T.call_extern("int32", call.function, *arguments, steps))


def _choice(choice: Choice, spaces: dict[Space, Buffer], num_steps: Expr) -> None:
    is_many = spaces[choice.is_many.space][choice.is_many.offset]
    with T.If(is_many != T.uint8(0)):
        for branch, calls in ((T.Then, choice.many), (T.Else, choice.few)):
            with branch():
                for call in calls:
                    _call(call, spaces, num_steps)


def _address(place: Place, spaces: dict[Space, Buffer]) -> Expr:
    return T.address_of(spaces[place.space][place.offset])
