"""Zeros for what writers leave alone, where the memory held something else before."""

from __future__ import annotations

from tvm import tirx

from spikenm_compile.lowering import tir
from spikenm_compile.lowering.tir import T


def build_clear(name: str, step_bytes: int) -> list[tirx.PrimFunc]:
    """Kernel `(memory, num_steps)`: `step_bytes` zero bytes for each step."""
    functions = list[tirx.PrimFunc]()
    with tir.kernel(name, [tir.Param("memory", "uint8")], functions) as ((memory,), num_steps):
        with T.serial(num_steps * step_bytes) as i:
            tir.store(memory, i, T.uint8(0))
    return functions
