"""Facts about CPUs: what the kernels need to know, and what a machine must have to run them."""

from __future__ import annotations

import platform
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from spikenm_compile.costs.amounts import Amounts, Caches
from spikenm_compile.costs.cpu_costs import CpuCosts
from spikenm_compile.errors import TargetError
from spikenm_compile.lowering.byte_shuffle import HALF_TABLE, ByteShuffle
from spikenm_compile.lowering.instructions import Instructions

KIB = 1024
_SHUFFLES = {
    128: ByteShuffle("llvm.x86.ssse3.pshuf.b.128", lanes=16, registers=16, near_bytes=24 * KIB),
    256: ByteShuffle("llvm.x86.avx2.pshuf.b", lanes=32, registers=16, near_bytes=24 * KIB),
    512: ByteShuffle("llvm.x86.avx512.pshuf.b.512", lanes=64, registers=32, near_bytes=24 * KIB),
}


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
    tile_width: int
    """Output channels per pass. The float32 potentials of a tile fill a quarter of the registers of AVX-512; with
    narrower vectors they fill half or all of them, and wait in memory while rows are added, since gathering a list and
    reaching its end cost the same for any tile. AVX2 takes 0.8 times as long with tiles of 64 as with 32, SSE 0.75
    times as long with 64 as with 16. By llvm-mca a row of 128 takes an A72 1.6 to 1.8 times as long as one of 64, and
    one of 32 takes 0.6 (int8) to 1 (int4) times as long."""
    gnu_triple: str
    """Beginning of the names of GNU cross compilers for it, as Debian spells them."""
    l1_bytes: int
    """First-level data cache of one core, typical of such machines."""
    l2_bytes: int
    """Second-level cache that a core can use, typical of such machines."""
    has_float_abi: bool = False
    """Whether LLVM has to be told that floats are passed in registers."""
    cflags: tuple[str, ...] = ()
    """What a C compiler has to be told beyond its default for the triple."""
    shuffle: ByteShuffle | None = None
    """The instruction that lookup tables are read by."""
    nanoseconds: Amounts | None = None
    """What the things that kernels do take on one core (costs.amounts); None: not measured."""

    @property
    def instructions(self) -> Instructions:
        """What kernels are written differently for."""
        features = self.features
        return Instructions("bmi2" in features, "avx512f" in features, self.shuffle)

    @property
    def costs(self) -> CpuCosts | None:
        """Prediction of kernels' times."""
        if self.nanoseconds is None:
            return None
        return CpuCosts(self.tile_width, Caches(self.l1_bytes, self.l2_bytes), self.nanoseconds)

    @property
    def tvm_target(self) -> dict[str, Any]:
        """TVM's description."""
        target: dict[str, Any] = {"kind": "llvm", "mtriple": self.triple, "mcpu": self.mcpu}
        if self.has_float_abi:
            target["mfloat-abi"] = "hard"
        return target | ({"mattr": list(self.mattr)} if self.mattr else {})


# Features of each level: x86-64 psABI, "Micro-Architecture Levels"; spelled as in /proc/cpuinfo.
_V2 = ("cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3")
_V3 = (*_V2, "abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "xsave")
_V4 = (*_V3, "avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl")


def _x86(level: str, features: tuple[str, ...], vector_bits: int, tile_width: int) -> Cpu:
    return Cpu(
        level,
        machine="x86_64",
        triple="x86_64-linux-gnu",
        mcpu=level,
        mattr=(),
        features=features,
        vector_bits=vector_bits,
        tile_width=tile_width,
        gnu_triple="x86_64-linux-gnu",
        l1_bytes=32 * KIB,
        l2_bytes=512 * KIB,
        shuffle=_SHUFFLES[vector_bits],
    )


# Fitted by `python -m benchmarks.cpu_costs --cpu x86-64-v4 --cases 132`, and with --cpu x86-64-v3 --cases 66, on one
# core of an AMD EPYC (Zen 4), a virtual machine.
_ZEN4 = Amounts(
    calls=1930.0,
    listed_words=3.1,
    classified_words=3.53,
    runs=3.35,
    copied_events=0.36,
    bytes_of_8=0.00166,
    bytes_of_4=0.00484,
    bytes_beyond_l1=0.00794,
    bytes_beyond_l2=0.0147,
    widened=1.23,
    updates=0.189,
    unpacked=0.0383,
    indexed=0.127,
    looked_up=0.377,
    moved_digits=0.335,
    updates_of_planes=0.138,
    multiplied=0.0167,
    masked_words=0.291,
    appends=0.933,
)
_ZEN4_AVX2 = Amounts(
    calls=1880.0,
    listed_words=3.42,
    classified_words=3.83,
    runs=2.33,
    copied_events=0.143,
    bytes_of_8=0.00738,
    bytes_of_7=0.00523,
    bytes_of_4=0.0137,
    bytes_beyond_l1=0.00585,
    bytes_beyond_l2=0.017,
    widened=0.811,
    updates=0.27,
    indexed=0.105,
    looked_up=0.584,
    updates_of_planes=0.174,
    multiplied=0.0177,
    masked_words=0.209,
    appends=2.06,
)
X86_64_V4 = replace(_x86("x86-64-v4", _V4, 512, 128), nanoseconds=_ZEN4)
X86_64_V3 = replace(_x86("x86-64-v3", _V3, 256, 64), nanoseconds=_ZEN4_AVX2)
X86_64_V2 = _x86("x86-64-v2", _V2, 128, 64)


def _aarch64(name: str, mcpu: str, mattr: tuple[str, ...], features: tuple[str, ...], l1: int, l2: int) -> Cpu:
    return Cpu(
        name,
        machine="aarch64",
        triple="aarch64-linux-gnu",
        mcpu=mcpu,
        mattr=mattr,
        features=features,
        vector_bits=128,
        tile_width=128,
        gnu_triple="aarch64-linux-gnu",
        l1_bytes=l1,
        l2_bytes=l2,
        shuffle=ByteShuffle("llvm.aarch64.neon.tbl1.v16i8", lanes=16, registers=32, near_bytes=l1 * 3 // 4),
    )


# Features: Arm Architecture Reference Manual, A-profile: Armv8.0 has NEON always; of Armv8.2 what LLVM may use for a
# Cortex-A76 without being asked (llc -mcpu=cortex-a76); spelled as in /proc/cpuinfo. Caches: Raspberry Pi 3, 4 and 5.
_ARMV8_2 = ("asimd", "asimddp", "asimdhp", "asimdrdm", "atomics", "fphp")
AARCH64 = _aarch64("aarch64", "generic", ("+neon",), ("asimd",), 32 * KIB, 512 * KIB)
ARM = replace(AARCH64, name="arm")
CORTEX_A53 = _aarch64("cortex-a53", "cortex-a53", ("+neon",), ("asimd",), 32 * KIB, 512 * KIB)
CORTEX_A72 = _aarch64("cortex-a72", "cortex-a72", ("+neon",), ("asimd",), 32 * KIB, 1024 * KIB)
CORTEX_A76 = _aarch64("cortex-a76", "cortex-a76", ("+neon", "+dotprod"), _ARMV8_2, 64 * KIB, 512 * KIB)
ARMV7_NEON = Cpu(
    "armv7-neon",
    machine="armv7l",
    triple="armv7a-linux-gnueabihf",
    mcpu="generic",
    mattr=("+neon",),
    features=("neon",),
    vector_bits=128,
    tile_width=32,
    gnu_triple="arm-linux-gnueabihf",
    l1_bytes=32 * KIB,
    l2_bytes=256 * KIB,
    shuffle=ByteShuffle("llvm.arm.neon.vtbl2", HALF_TABLE, registers=32, near_bytes=24 * KIB),
    has_float_abi=True,
    # Without NEON: the C code says that a CPU has none. The compiled kernels know of NEON by `mattr`.
    cflags=("-march=armv7-a", "-mfpu=vfpv3-d16", "-mfloat-abi=hard"),
)
CPUS = (X86_64_V4, X86_64_V3, X86_64_V2, AARCH64)
"""What `native` chooses from, best first within an architecture."""

EDGE_CPUS = (ARM, CORTEX_A53, CORTEX_A72, CORTEX_A76, ARMV7_NEON, X86_64_V3, X86_64_V4)
"""What a C library is built for by name, on any machine."""


def cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """Features of this machine as Linux names them."""
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    lines = [line.partition(":")[2] for line in text.splitlines() if line.startswith(("flags", "Features"))]
    return frozenset(lines[0].split()) if lines else frozenset()


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """What this machine calls its CPU; on ARM, where Linux gives numbers only, these."""
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    facts = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    named = facts.get("model name") or " ".join(facts[k] for k in ("CPU implementer", "CPU part") if k in facts)
    families = " ".join(facts[k] for k in ("cpu family", "model", "stepping") if k in facts)
    return f"{named} {families}".strip() or platform.processor()


def find_cpu(machine: str | None = None, flags: frozenset[str] | None = None) -> Cpu | None:
    """The best CPU description that this machine (or the given one) satisfies, if there is one."""
    machine = platform.machine() if machine is None else machine
    flags = cpu_flags() if flags is None else flags
    return next((cpu for cpu in CPUS if cpu.machine == machine and flags.issuperset(cpu.features)), None)


def detect(machine: str | None = None, flags: frozenset[str] | None = None) -> Cpu:
    """The best CPU description that this machine (or the given one) satisfies.

    Raises:
        TargetError: no description fits.
    """
    machine = platform.machine() if machine is None else machine
    flags = cpu_flags() if flags is None else flags
    cpu = find_cpu(machine, flags)
    if cpu is not None:
        return cpu
    raise TargetError(
        f"this machine is '{machine}' and lacks the vector units that native code needs; "
        f"supported are x86-64-v2 and later and aarch64 under Linux, so build with --target onnx here"
    )
