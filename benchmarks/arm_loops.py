"""The innermost loops of a counted ARM program, and their cycles on cores that llvm-mca has a model of."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.arm_counter import INSTRUCTION_BYTES, Counted
from spikenm_compile.errors import ToolError
from spikenm_compile.targets.cpu import Cpu

MODELS = ("cortex-a53", "cortex-a72", "neoverse-n1")
"""In LLVM the Cortex-A72 has the A57's model; the Neoverse N1 is the Cortex-A76's sister."""
ITERATIONS = 200
_LINE = re.compile(r"^\s*([0-9a-f]+):\s+(\S+)\s*(.*?)\s*(//.*)?$")
_TARGET = re.compile(r"([0-9a-f]+) <[^>]*>$")


@dataclass(frozen=True)
class Instruction:
    """One line of a disassembly."""

    address: int
    name: str
    operands: str

    @property
    def target(self) -> int | None:
        """Where it may jump to."""
        found = _TARGET.search(self.operands) if self.name[0] in "bct" else None
        return int(found[1], 16) if found else None


@dataclass(frozen=True)
class Loop:
    """Instructions of which only the last jumps, to the first."""

    instructions: tuple[Instruction, ...]
    runs: int
    """How often it came round."""

    @property
    def taken(self) -> int:
        """Instructions that it took in all."""
        return len(self.instructions) * self.runs

    @property
    def vector_bytes(self) -> int:
        """Bytes that a round loads into vector registers, without those that wait on the stack."""
        loads = [i.operands for i in self.instructions if i.name in ("ldp", "ldr", "ldur") and "[sp" not in i.operands]
        return sum(16 * len(re.findall(r"\bq\d", operands)) for operands in loads)

    @property
    def assembly(self) -> str:
        """As an assembler reads it."""
        *body, last = self.instructions
        lines = [f"{i.name} {_TARGET.sub('loop', i.operands)}" for i in body]
        return "\n".join(["loop:", *lines, f"{last.name} {_TARGET.sub('loop', last.operands)}\n"])

    def cycles(self, model: str) -> float | None:
        """Cycles of one round on a core, by llvm-mca; None: the core lacks an instruction.

        Everything is in the first-level cache, and every jump foreseen.

        Raises:
            ToolError: there is no llvm-mca that has the model.
        """
        command = [_analyser(), "-mtriple=aarch64-linux-gnu", f"-mcpu={model}", f"-iterations={ITERATIONS}"]
        done = subprocess.run(command, input=self.assembly, capture_output=True, text=True, check=False)
        if "instruction requires" in done.stderr:
            return None
        found = re.search(r"Total Cycles:\s+(\d+)", done.stdout)
        if found is None or "not a recognized processor" in done.stderr:
            reason = (done.stderr.strip().splitlines() or ["no message"])[0]
            raise ToolError(f"{command[0]} failed for {model}: {reason}; install Debian's llvm-19 or later")
        return int(found[1]) / ITERATIONS


def _analyser() -> str:
    path = next((p for p in map(shutil.which, ("llvm-mca-19", "llvm-mca-18", "llvm-mca-17", "llvm-mca")) if p), None)
    if path is None:
        raise ToolError("no llvm-mca is on this machine; cycles need its models of cores, so install Debian's llvm-19")
    return path


def disassemble(program: Path, cpu: Cpu, function: str) -> list[Instruction]:
    """The instructions of a function."""
    command = [f"{cpu.gnu_triple}-objdump", "-d", "--no-show-raw-insn", f"--disassemble={function}", str(program)]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = (_LINE.match(line) for line in listing.splitlines())
    return [Instruction(int(m[1], 16), m[2], m[3]) for m in found if m]


def loops_of(code: list[Instruction], counted: Counted) -> list[Loop]:
    """The innermost loops of a function that ran, the one that took the most instructions first."""
    runs = counted.by_address()
    loops = (Loop(body, runs[body[-1].address]) for body in _innermost(code))
    return sorted((loop for loop in loops if loop.runs), key=lambda loop: -loop.taken)


def _innermost(code: list[Instruction]) -> Iterator[tuple[Instruction, ...]]:
    start = 0
    for number, instruction in enumerate(code):
        if instruction.target is None:
            continue
        length = (instruction.address - instruction.target) // INSTRUCTION_BYTES
        if 0 <= length <= number - start:
            yield tuple(code[number - length : number + 1])
        start = number + 1
