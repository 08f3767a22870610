"""Generated CUDA source on the host: compiled by g++ with the assembly of its helpers replaced, and run as fibers."""

from __future__ import annotations

import atexit
import ctypes
import hashlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from spikenm_compile.lowering.cuda.generated import GeneratedKernel

HEADER = Path(__file__).parent / "emulator.h"
FLAGS = (
    *("-std=c++17", "-O1", "-ffp-contract=off", "-fno-strict-aliasing", "-w", "-fPIC", "-shared", "-U_FORTIFY_SOURCE"),
    *("-fsanitize=bounds,alignment", "-fsanitize-undefined-trap-on-error"),
)
GUARD = 4096
"""Bytes before and after each buffer that a kernel must leave alone."""
ALIGNMENT = 256
"""Of buffers, as of what the driver of a GPU allocates."""
C_TYPES = {"s8": "int8_t", "u8": "uint8_t"}

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="the emulator of CUDA is compiled by g++")


class EmulationError(Exception):
    """The kernel did what a GPU would hang, fault or be undefined on."""


def _sparse(match: re.Match[str]) -> str:
    registers = "uint32_t a[4]={__a0,__a1,__a2,__a3},b[4]={__b0,__b1,__b2,__b3},c[4]={__c0,__c1,__c2,__c3},d[4];"
    call = f"emulator::multiply_sparse<{C_TYPES[match[1]]},{C_TYPES[match[2]]}>(d,a,b,c,__e);"
    return f"{registers} {call} __d0=d[0];__d1=d[1];__d2=d[2];__d3=d[3];"


def _dense(match: re.Match[str]) -> str:
    registers = "uint32_t a[4]={__a0,__a1,__a2,__a3},b[2]={__b0,__b1},c[4]={__c0,__c1,__c2,__c3},d[4];"
    call = f"emulator::multiply_dense<{C_TYPES[match[1]]},{C_TYPES[match[2]]}>(d,a,b,c);"
    return f"{registers} {call} __d0=d[0];__d1=d[1];__d2=d[2];__d3=d[3];"


INSTRUCTIONS: dict[str, Callable[[re.Match[str]], str]] = {
    r"mma\.sp::ordered_metadata\.sync\.aligned\.m16n8k64\.row\.col\.s32\.(s8|u8)\.(s8|u8)\.s32 .*, 0;": _sparse,
    r"mma\.sync\.aligned\.m16n8k32\.row\.col\.s32\.(s8|u8)\.(s8|u8)\.s32 .*;": _dense,
    r"cp\.async\.c[ag]\.shared\.global \[%0\], \[%1\], (\d+);": lambda m: (
        f"emulator::copy_async(__dst_mem, __src_mem, {m[1]});"
    ),
    r"cp\.async\.commit_group;": lambda _: "emulator::commit();",
    r"cp\.async\.wait_group (\d+);": lambda m: f"emulator::wait({m[1]});",
}
"""Assembly -> its emulation."""


def _emulated(assembly: str) -> str:
    for pattern, emulation in INSTRUCTIONS.items():
        if match := re.fullmatch(pattern, assembly):
            return emulation(match)
    raise EmulationError(f"the emulator does not know the instruction '{assembly}'")


def to_host(kernel: GeneratedKernel) -> str:
    """The CUDA source as C++ of the host, with an entry that takes an array of pointers to the arguments."""
    source = re.sub(r"#include <(cuda|math_constants)\.h>", "", kernel.source)
    source = re.sub(r'asm volatile\("(.*?)"\s*:.*?\);\n', lambda m: _emulated(m[1]) + "\n", source)
    source = re.sub(r"extern __shared__ __align__\(64\) uint (\w+)\[\];", "", source)
    signature = re.search(rf"__global__ void [^;]*?\b{kernel.name}\(([^)]*)\)", source)
    assert signature is not None
    types = [p.strip().rsplit(" ", 1)[0].replace("__restrict__", "") for p in signature[1].split(",")]
    values = ", ".join(f"({t})a[{i}]" if "*" in t else f"*({t}*)a[{i}]" for i, t in enumerate(types))
    shared = f"alignas(64) static unsigned shared_ptr[{max(1, kernel.shared_bytes // 4)}];"
    entry = f"static void call_kernel(void** a) {{ {kernel.name}({values}); }}\nDEFINE_LAUNCH(shared_ptr)\n"
    return f'#include "emulator.h"\n{shared}\n{source}\n{entry}'


@cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="emulated-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def compile_for_host(kernel: GeneratedKernel) -> ctypes.CDLL:
    """A library with the function `launch`."""
    text = to_host(kernel)
    path = _folder() / f"{hashlib.sha256(text.encode()).hexdigest()[:20]}.so"
    if not path.exists():
        source = path.with_suffix(".cc")
        source.write_text(text)
        command = ["g++", *FLAGS, f"-I{HEADER.parent}", str(source), "-o", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise EmulationError(done.stderr[:2000])
    return ctypes.CDLL(str(path))


@dataclass(frozen=True)
class Schedule:
    """How the emulator decides what the hardware leaves open."""

    copies_land_late: bool = True
    seed: int = 1
    """Of the order of warps; 0: in order."""


LATE = Schedule()


def launch(
    kernel: GeneratedKernel,
    arrays: Mapping[str, NDArray[Any]],
    batch: int,
    schedule: Schedule = LATE,
    number: float = 0.0,
) -> dict[str, NDArray[Any]]:
    """Run a kernel on copies of `arrays` and return what they hold afterwards.

    Raises:
        EmulationError: a hang, a bad copy, divergence at a collective, or a write outside of a buffer.
    """
    scalars: dict[str, ctypes.c_int | ctypes.c_float] = {"batch": ctypes.c_int(batch), "number": ctypes.c_float(number)}
    assert set(arrays) == set(kernel.parameters) - set(scalars), (sorted(arrays), kernel.parameters)
    library = compile_for_host(kernel)
    library.launch.restype = ctypes.c_char_p
    guarded = {name: _guarded(array) for name, array in arrays.items()}
    pointers = [
        ctypes.addressof(scalars[name]) if name in scalars else guarded[name].ctypes.data + GUARD
        for name in kernel.parameters
    ]
    x, y, _ = kernel.grid.size(batch)
    arguments = (ctypes.c_void_p * len(pointers))(*pointers)
    message = library.launch(x, y, kernel.block, int(schedule.copies_land_late), schedule.seed, arguments)
    if message is not None:
        raise EmulationError(message.decode())
    for name, buffer in guarded.items():
        if (buffer[:GUARD] != 0xEE).any() or (buffer[-GUARD:] != 0xEE).any():
            raise EmulationError(f"the kernel wrote outside of '{name}'")
    return {name: guarded[name][GUARD:-GUARD].view(array.dtype).reshape(array.shape) for name, array in arrays.items()}


def _guarded(array: NDArray[Any]) -> NDArray[np.uint8]:
    """The bytes of an array between two guards."""
    raw = np.full(array.nbytes + 2 * GUARD + ALIGNMENT, 0xEE, np.uint8)
    offset = -raw.ctypes.data % ALIGNMENT
    buffer = raw[offset : offset + array.nbytes + 2 * GUARD]
    buffer[GUARD:-GUARD] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return buffer
