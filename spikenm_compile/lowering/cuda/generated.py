"""What comes of a spec: CUDA source, and what its caller must know to launch it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

WARP = 32
"""Threads that run together."""


@dataclass(frozen=True)
class Gpu:
    """Facts about the GPUs that kernels are generated for; the defaults hold from sm_80 to sm_120."""

    shared_bytes: int = 99 * 1024
    """Shared memory that one block may have: 99 KiB on 8.6, 8.9 and 12.0 (CUDA programming guide, compute
    capabilities), more elsewhere."""
    registers: int = 255
    """32-bit registers that one thread may have."""
    multiprocessors: int = 108
    """Blocks that should at least run at once: as many as an A100 has multiprocessors."""


@dataclass(frozen=True)
class Grid:
    """Blocks of a launch as a function of the batch."""

    blocks: int
    """Blocks in x for each `samples` samples."""
    samples: int = 1
    rows: int = 1
    """Blocks in y."""

    def size(self, batch: int) -> tuple[int, int, int]:
        """Blocks in x, y and z."""
        return -(-batch // self.samples) * self.blocks, self.rows, 1


@dataclass(frozen=True)
class GeneratedKernel:
    """`extern "C" __global__ void name(parameters...)`."""

    name: str
    source: str
    """CUDA C++, complete; to be compiled with -fmad=false."""
    parameters: tuple[str, ...]
    """Names in the order of the signature: pointers, and `batch`, an int."""
    grid: Grid
    block: int
    """Threads of a block."""
    shared_bytes: int
    """Dynamic shared memory of a block."""
    pack: Callable[[NDArray[Any]], NDArray[Any]] | None = None
    """Of a convolution: int8 weights [O, I/groups, kh, kw] to what `weights` points to."""
    description: str = ""
    """Which kind of kernel it is and how it is tiled, for people."""
