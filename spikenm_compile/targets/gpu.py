"""Facts about GPUs: what generated kernels may use, and which binaries run where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MAX_THREADS = 1024
"""Threads of a block, on every architecture below."""


@dataclass(frozen=True)
class Gpu:
    """A GPU architecture with 2:4-sparse int8 tensor cores.

    Figures are those of the CUDA C++ Programming Guide, "Technical Specifications per Compute Capability".
    """

    arch: str
    """Name that nvcc knows it by."""
    shared_bytes: int
    """Largest dynamic shared memory of a block, opted into."""
    registers: int
    """32-bit registers of a multiprocessor, and of a block at most."""
    examples: str

    @property
    def capability(self) -> tuple[int, int]:
        """(major, minor)."""
        number = int(self.arch.removeprefix("sm_"))
        return number // 10, number % 10


KIB = 1024
GPUS = (
    Gpu("sm_80", 163 * KIB, 65536, "A100, A30"),
    Gpu("sm_86", 99 * KIB, 65536, "A10, A40, RTX 30"),
    Gpu("sm_89", 99 * KIB, 65536, "L4, L40, RTX 40"),
    Gpu("sm_90", 227 * KIB, 65536, "H100, H200, GH200"),
    Gpu("sm_100", 227 * KIB, 65536, "B100, B200"),
    Gpu("sm_120", 99 * KIB, 65536, "RTX 50, RTX PRO Blackwell"),
)
"""Architectures that an artifact holds machine code for; any other from the first on translates its PTX."""


def portable_shared_bytes(gpus: Sequence[Gpu] = GPUS) -> int:
    """Shared memory that a block may use on each of the GPUs: one source serves them all."""
    return min(gpu.shared_bytes for gpu in gpus)


def portable_registers(threads: int, gpus: Sequence[Gpu] = GPUS) -> int:
    """Registers that a thread may use on each of the GPUs, for blocks of that many threads."""
    return min(255, min(gpu.registers for gpu in gpus) // threads)
