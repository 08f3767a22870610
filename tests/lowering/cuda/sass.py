"""What the CUDA compiler makes of generated source: machine code, registers, spills."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from spikenm_compile.lowering.cuda.generated import GeneratedKernel

ARCHES = ("sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")


def _tool(name: str) -> str | None:
    """A program of CUDA: in $CUDA_HOME, on the path, or of the packages of PyPI."""
    home = os.environ.get("CUDA_HOME")
    packages = [str(Path(entry) / "nvidia/cu13/bin") for entry in sys.path]
    places = [*([f"{home}/bin"] if home else []), *os.environ["PATH"].split(os.pathsep), *packages]
    return shutil.which(name, path=os.pathsep.join(places))


NVCC, NVDISASM = _tool("nvcc"), _tool("nvdisasm")
needs_cuda_compiler = pytest.mark.skipif(
    NVCC is None or NVDISASM is None or shutil.which("g++") is None,
    reason="nvcc, nvdisasm or g++ is missing: install the extra `cuda`, or set CUDA_HOME",
)


@dataclass(frozen=True)
class MachineCode:
    """One kernel for one architecture."""

    registers: int
    spilled_bytes: int
    stack_bytes: int
    opcodes: Counter[str]
    """Instruction with its modifiers -> how often it stands in the code."""

    def count(self, beginning: str) -> int:
        """Instructions whose opcode begins so."""
        return sum(number for opcode, number in self.opcodes.items() if opcode.startswith(beginning))


def compile_to_cubin(kernel: GeneratedKernel, arch: str, folder: Path) -> tuple[Path, str]:
    """Compile as an artifact's kernels are compiled: the binary, and what the assembler says of it."""
    source, binary = folder / f"{kernel.name}.cu", folder / f"{kernel.name}.{arch}.cubin"
    source.write_text(kernel.source)
    command = [NVCC, "-cubin", f"-arch={arch}", "-std=c++17", "-O3", "-fmad=false", "-w", "-Xptxas=-v"]
    return binary, _run([*command, str(source), "-o", str(binary)])


def compile_for_gpu(kernel: GeneratedKernel, arch: str, folder: Path) -> MachineCode:
    """Compile, and take the result apart."""
    binary, report = compile_to_cubin(kernel, arch, folder)
    numbers = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", report)
    registers = re.search(r"Used (\d+) registers", report)
    assert numbers is not None
    assert registers is not None
    stack, stores, loads = map(int, numbers.groups())
    code = _run([NVDISASM, str(binary)])
    opcodes = re.findall(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ )?\s*([A-Z][A-Z0-9_.]+)", code, re.MULTILINE)
    return MachineCode(int(registers[1]), stores + loads, stack, Counter(opcodes))


def _run(command: list[str | None]) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr
