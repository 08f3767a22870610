"""Instructions counted on emulated ARM cores: of a layer, of the peer, of one function; and what is refused."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
import torch
from edge_machines import machine, tool

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import arm_loops
from benchmarks.arm import Variant, layer_of
from benchmarks.arm_counter import Block, Counted, compile_program, count
from benchmarks.arm_gemms import LOOP_MAC, count_gemm, instructions_of
from benchmarks.arm_layers import count_layer
from benchmarks.arm_loops import Instruction, loops_of
from benchmarks.cpu_workloads import Shape
from spikenm_compile.errors import ToolError
from spikenm_compile.passes.select_kernels import EVENT_ROWS, STAGGERED_ROWS
from spikenm_compile.targets.cpu import CORTEX_A72, CORTEX_A76, Cpu

COUNTED = 'int counted(int n) { for (; n > 0; n--) __asm__ volatile("nop"); return n; }'
MAIN = "int main(void) { return counted(1000); }"


@pytest.fixture(autouse=True)
def tools() -> None:
    """Compilers and emulator, or the test is skipped."""
    machine("cortex-a72")
    tool("aarch64-linux-gnu-objdump")


def test_a_loop_of_a_thousand_rounds(tmp_path: Path) -> None:
    (tmp_path / "loop.c").write_text(f"__attribute__((noinline)) {COUNTED}\n{MAIN}\n")
    compile_program(CORTEX_A72, [tmp_path / "loop.c"], tmp_path / "loop", "-Wno-unused-parameter")
    counted = count(CORTEX_A72, tmp_path / "loop", b"")
    (loop,) = loops_of(arm_loops.disassemble(tmp_path / "loop", CORTEX_A72, "counted"), counted)
    assert loop.runs == 1000
    assert 0 < counted.by_function()["counted"] - loop.taken < 10


@pytest.mark.parametrize(("pattern", "family"), [("2:4", EVENT_ROWS), ("1:4@stagger", STAGGERED_ROWS)])
def test_a_layer_takes_instructions_for_its_spikes(pattern: str, family: str) -> None:
    layer = layer_of(Shape(64, 64, 4), Variant(pattern, "int8", family))
    few, many = (torch.zeros(2, 2, 64, 4, 4) for _ in range(2))
    few[:, :, :4], many[:, :, :32] = 1, 1
    counted = [count_layer(layer, x, CORTEX_A72) for x in (few, many)]
    assert 0 < counted[0].list_instructions < counted[0].instructions < 0.5 * counted[1].instructions
    assert all(c.loops[0].taken < 2 * c.instructions for c in counted)


@pytest.mark.parametrize(("cpu", "instructions"), [(CORTEX_A72, 56), (CORTEX_A76, 78)])
def test_the_peer_is_little_more_than_its_loop(cpu: Cpu, instructions: int) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randint(-127, 128, (16, 128, 3, 3), generator=generator).to(torch.int8)
    x = torch.randint(-127, 128, (1, 128, 8, 8), generator=generator)
    counted = count_gemm(weight, x, cpu)
    assert len(counted.loop.instructions) == instructions
    rounds = weight.numel() * 8 * 8 / LOOP_MAC[instructions_of(cpu)]
    assert 1 < counted.instructions / (rounds * instructions) < 1.1


def test_only_innermost_loops_are_loops() -> None:
    lines = [("add", ""), ("ldr", ""), ("b.ne", "4 <f>"), ("cbz", "20 <f>"), ("b", "0 <f>")]
    code = [Instruction(4 * i, name, operands) for i, (name, operands) in enumerate(lines)]
    counted = Counted(b"", (Block(0, 1, 1), Block(4, 2, 7), Block(12, 2, 1)), ((0, "f"),))
    (loop,) = loops_of(code, counted)
    assert (loop.runs, loop.taken, loop.assembly) == (7, 14, "loop:\nldr \nb.ne loop\n")


def test_without_llvm_mca_there_are_no_cycles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    loop = arm_loops.Loop((Instruction(0, "b", "0 <f>"),), 1)
    with pytest.raises(ToolError, match="no llvm-mca is on this machine"):
        loop.cycles("cortex-a72")
