"""Facts about CPUs: what the kernels need to know, and what a machine must have to run them."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spikenm_compile.errors import TargetError


@dataclass(frozen=True)
class Cpu:
    """A CPU as the kernels see it."""

    name: str
    machine: str
    """`uname -m` of the machines it runs on."""
    triple: str
    mcpu: str
    """LLVM's name; a level of an architecture rather than a model, so that artifacts move between machines."""
    mattr: tuple[str, ...]
    features: tuple[str, ...]
    """Features, in Linux' spelling, that a machine must have."""
    vector_bits: int
    num_vector_registers: int

    @property
    def tile_width(self) -> int:
        """Output channels per pass: float32 potentials fill a quarter of the registers, the rest is for sums."""
        return self.num_vector_registers // 4 * (self.vector_bits // 32)

    @property
    def tvm_target(self) -> dict[str, Any]:
        """TVM's description."""
        target: dict[str, Any] = {"kind": "llvm", "mtriple": self.triple, "mcpu": self.mcpu}
        return target | ({"mattr": list(self.mattr)} if self.mattr else {})


_X86 = {"machine": "x86_64", "triple": "x86_64-linux-gnu", "mattr": ()}
# Features of each level: x86-64 psABI, "Micro-Architecture Levels"; spelled as in /proc/cpuinfo.
_V2 = ("cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3")
_V3 = (*_V2, "abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "xsave")
_V4 = (*_V3, "avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl")

X86_64_V4 = Cpu("x86-64-v4", mcpu="x86-64-v4", features=_V4, vector_bits=512, num_vector_registers=32, **_X86)  # type: ignore[arg-type]
X86_64_V3 = Cpu("x86-64-v3", mcpu="x86-64-v3", features=_V3, vector_bits=256, num_vector_registers=16, **_X86)  # type: ignore[arg-type]
X86_64_V2 = Cpu("x86-64-v2", mcpu="x86-64-v2", features=_V2, vector_bits=128, num_vector_registers=16, **_X86)  # type: ignore[arg-type]
AARCH64 = Cpu(
    "aarch64",
    machine="aarch64",
    triple="aarch64-linux-gnu",
    mcpu="generic",
    mattr=("+neon",),
    features=("asimd",),
    vector_bits=128,
    num_vector_registers=32,
)
CPUS = (X86_64_V4, X86_64_V3, X86_64_V2, AARCH64)
"""Best first within an architecture."""


def cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """Features of this machine as Linux names them."""
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    lines = [line.partition(":")[2] for line in text.splitlines() if line.startswith(("flags", "Features"))]
    return frozenset(lines[0].split()) if lines else frozenset()


def detect(machine: str | None = None, flags: frozenset[str] | None = None) -> Cpu:
    """The best CPU description that this machine (or the given one) satisfies.

    Raises:
        TargetError: no description fits.
    """
    machine = platform.machine() if machine is None else machine
    flags = cpu_flags() if flags is None else flags
    for cpu in CPUS:
        if cpu.machine == machine and flags.issuperset(cpu.features):
            return cpu
    raise TargetError(
        f"this machine is '{machine}' and lacks the vector units that native code needs; "
        f"supported are x86-64-v2 and later and aarch64 under Linux, so build with --target onnx here"
    )
