"""How many instructions an ARM program takes: QEMU runs it with arm_counter.c, which counts its blocks."""

from __future__ import annotations

import re
import shutil
import subprocess
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from spikenm_compile.errors import ToolError
from spikenm_compile.targets.cpu import Cpu
from spikenm_compile.targets.cross import find_toolchain

SOURCES = Path(__file__).parent
INSTRUCTION_BYTES = 4
EMULATOR = "qemu-aarch64"
INSTALL = "install Debian's qemu-user, gcc-aarch64-linux-gnu and libc6-dev-arm64-cross (`make edge-tools`)"


@dataclass(frozen=True)
class Block:
    """Instructions that run one after the other."""

    address: int
    instructions: int
    runs: int


@dataclass(frozen=True)
class Counted:
    """What a program wrote, and what it took."""

    output: bytes
    blocks: tuple[Block, ...]
    functions: tuple[tuple[int, str], ...]
    """Address and name of each function, by address."""

    def function_of(self, address: int) -> str:
        """The function that an instruction is in."""
        return self.functions[bisect_right(self.functions, (address, "\uffff")) - 1][1]

    def by_function(self) -> Counter[str]:
        """Function -> instructions that it ran."""
        found = Counter[str]()
        for block in self.blocks:
            found[self.function_of(block.address)] += block.instructions * block.runs
        return found

    def by_address(self) -> Counter[int]:
        """Address of an instruction -> how often it ran."""
        found = Counter[int]()
        for block in self.blocks:
            for number in range(block.instructions):
                found[block.address + INSTRUCTION_BYTES * number] += block.runs
        return found


def compile_program(cpu: Cpu, files: Sequence[Path], program: Path, *flags: str) -> None:
    """C sources and objects to a program without shared libraries, so that its addresses are those of its file.

    Raises:
        ToolError: there is no compiler for the CPU, or it fails.
    """
    toolchain = find_toolchain(cpu)
    if toolchain is None:
        raise ToolError(f"no C compiler for {cpu.gnu_triple} is on this machine; one is needed to count, so {INSTALL}")
    # GCC's first scheduling makes more values alive at a time than there are registers.
    options = ("-O3", "-fno-schedule-insns", f"-mcpu={cpu.mcpu}", "-static", "-no-pie", "-Wall", "-Wextra")
    _run([*toolchain.cc, *options, *flags, *map(str, files), "-o", str(program)])


def count(cpu: Cpu, program: Path, data: bytes) -> Counted:
    """Run a program on an emulated CPU; `data` is its standard input.

    Raises:
        ToolError: there is no emulator, it loads no plugins, or the program fails.
    """
    emulator = _emulator()
    with TemporaryDirectory() as scratch:
        plugin, counts = Path(scratch) / "counter.so", Path(scratch) / "counts.txt"
        api = f"-DAPI={_plugin_version(emulator)}"
        _run(["cc", "-O2", "-shared", "-fPIC", api, str(SOURCES / "arm_counter.c"), "-o", str(plugin)])
        command = [emulator, "-cpu", cpu.mcpu, "-plugin", f"{plugin},out={counts}", str(program)]
        output = _run(command, data)
        lines = [line.split() for line in counts.read_text().splitlines()]
    blocks = tuple(Block(int(address, 16), int(size), int(runs)) for address, size, runs in lines)
    return Counted(output, blocks, _functions(program, cpu))


def _emulator() -> str:
    path = shutil.which(EMULATOR)
    if path is None:
        raise ToolError(f"no {EMULATOR} is on this machine; it is needed to count, so {INSTALL}")
    return path


@cache
def _plugin_version(emulator: str) -> int:
    """The interface that QEMU asks of plugins: the first until 8.2, the second from 9.0 on."""
    found = re.search(r"version (\d+)", _run([emulator, "--version"]).decode())
    assert found is not None, f"{emulator} --version names no version"
    return 1 if int(found[1]) < 9 else 2


def _functions(program: Path, cpu: Cpu) -> tuple[tuple[int, str], ...]:
    lines = [line.split() for line in _run([f"{cpu.gnu_triple}-nm", str(program)]).decode().splitlines()]
    return tuple(sorted((int(line[0], 16), line[2]) for line in lines if len(line) == 3 and line[1] in "tTwW"))


def _run(command: list[str], data: bytes = b"") -> bytes:
    done = subprocess.run(command, input=data, capture_output=True, check=False)
    if done.returncode:
        reason = (done.stderr.decode().strip().splitlines() or ["no message"])[-1]
        raise ToolError(f"{Path(command[0]).name} failed: {reason}; a working one is needed to count, so {INSTALL}")
    return done.stdout
