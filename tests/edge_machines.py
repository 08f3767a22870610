"""The machines that edge artifacts are tested on: a C compiler for each, and what runs its programs here."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from spikenm_compile.targets.cpu import EDGE_CPUS, Cpu, cpu_flags
from spikenm_compile.targets.cross import find_toolchain

QEMU = {"aarch64": "qemu-aarch64", "armv7l": "qemu-arm"}
"""`uname -m` -> emulator of user programs (Debian's qemu-user)."""

QEMU_CPU = {"arm": "cortex-a53", "armv7-neon": "cortex-a9"}
"""The least CPU of a target, where it is not named like one."""

PACKAGES = "make edge-tools installs it"


@dataclass(frozen=True)
class Machine:
    """Runs what is built for `cpu`."""

    cpu: Cpu
    runner: tuple[str, ...]

    def compile(self, artifact: Path, source: Path, program: Path, *flags: str) -> None:
        toolchain = find_toolchain(self.cpu)
        assert toolchain is not None
        warnings = ("-Wall", "-Wextra", "-Werror", "-O2", f"-I{artifact}")
        files = (str(source), str(artifact / "libmodel.a"), "-o", str(program))
        subprocess.run([*toolchain.cc, *toolchain.cflags, *warnings, *flags, *files], check=True)

    def run(
        self, program: Path, *arguments: object, data: bytes = b"", env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        return run_program([*self.runner, program], *arguments, data=data, env=env)


def run_program(
    command: Sequence[str | Path], *arguments: object, data: bytes = b"", env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run a test program, emulated or not; `data` is its standard input."""
    words = [*map(str, command), *map(str, arguments)]
    return subprocess.run(words, input=data, capture_output=True, check=False, timeout=120, env=env)


def machine(target: str, qemu_cpu: str | None = None) -> Machine:
    """The machine of a target; skips the test if it is not there."""
    cpu = next(cpu for cpu in EDGE_CPUS if cpu.name == target)
    if find_toolchain(cpu) is None:
        pytest.skip(f"no C compiler for {cpu.gnu_triple}: {PACKAGES}")
    if cpu.machine == platform.machine():
        if not cpu_flags().issuperset(cpu.features):
            pytest.skip(f"this machine is no {target}")
        return Machine(cpu, ())
    emulator = shutil.which(QEMU.get(cpu.machine, ""))
    if emulator is None:
        pytest.skip(f"no emulator of {cpu.machine}: {PACKAGES}")
    return Machine(cpu, (emulator, "-L", f"/usr/{cpu.gnu_triple}", "-cpu", qemu_cpu or QEMU_CPU.get(target, target)))


@cache
def tool(name: str) -> str:
    """Path of a program of binutils; skips the test if it is not there."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not there: {PACKAGES}")
    return path
