"""The machine code of convolution kernels is what they were designed for, on every architecture with 2:4."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from lowering.cuda.conv_cases import Case
from lowering.cuda.sass import ARCHES, compile_for_gpu, needs_cuda_compiler

from spikenm_compile.levels import Levels
from spikenm_compile.lowering.cuda.build import build_kernel
from spikenm_compile.lowering.cuda.choose_tiling import choose_tiling
from spikenm_compile.lowering.cuda.conv_mma import build_conv_mma
from spikenm_compile.lowering.cuda.generated import Gpu

pytestmark = needs_cuda_compiler

WIDE = Case(256, 256, (16, 16), steps=4, batch=64)
GPU = Gpu()
DAILY = ("sm_80", "sm_90")
EMULATIONS = ("HMMA", "QMMA", "BMMA", "F2FP", "LDL", "STL", "FFMA")
"""What stands in the code of an instruction that the architecture does not have, of spills, and of contraction."""


def check(case: Case, arch: str, folder: Path, sparse: str, dense: str) -> None:
    tiling = choose_tiling(case.spec, GPU, case.batch)
    assert tiling is not None
    kernel = build_conv_mma(case.spec, tiling)
    code = compile_for_gpu(kernel, arch, folder)
    instructions = tiling.stage_steps * tiling.row_tiles * tiling.columns * tiling.steps
    expected = (instructions, 0) if case.is_sparse else (0, 2 * instructions)
    assert (code.opcodes[sparse], code.opcodes[dense]) == expected
    assert code.count("IMMA") == sum(expected)
    assert {name: code.count(name) for name in EMULATIONS} == dict.fromkeys(EMULATIONS, 0)
    assert (code.spilled_bytes, code.stack_bytes) == (0, 0)
    assert code.registers <= min(GPU.registers, 65536 // kernel.block)
    assert kernel.shared_bytes <= GPU.shared_bytes


@pytest.mark.parametrize("arch", [a if a in DAILY else pytest.param(a, marks=pytest.mark.long) for a in ARCHES])
def test_spikes_by_2_of_4(arch: str, tmp_path: Path) -> None:
    check(WIDE, arch, tmp_path, "IMMA.SP.16864.S8.U8", "IMMA.16832.S8.U8")


@pytest.mark.long
@pytest.mark.parametrize("arch", ["sm_80", "sm_89", "sm_90", "sm_120"])
@pytest.mark.parametrize(
    "case",
    [
        replace(WIDE, is_sparse=False),
        replace(WIDE, steps=1),
        replace(WIDE, steps=2),
        replace(WIDE, steps=8),
        replace(WIDE, steps=6, batch=1),
        replace(WIDE, levels=Levels(0, 255)),
        replace(WIDE, levels=Levels(-128, 127), neuron=None),
        replace(WIDE, channels=32, kernel=(7, 7), padding=3, stride=2),
    ],
    ids=["dense", "1 step", "2 steps", "8 steps", "small batch", "counts", "signed", "one unit"],
)
def test_others(case: Case, arch: str, tmp_path: Path) -> None:
    kind = "S8.S8" if case.levels.low < 0 else "S8.U8"
    check(case, arch, tmp_path, f"IMMA.SP.16864.{kind}", f"IMMA.16832.{kind}")


def test_other_kernels_compile(tmp_path: Path) -> None:
    code = compile_for_gpu(build_kernel(Case(6, 6, groups=6, is_sparse=False).spec, GPU), "sm_80", tmp_path)
    assert code.count("IMMA") == 0
    assert code.count("FFMA") <= 8  # of divisions: nvcc's own, correctly rounded
    assert code.spilled_bytes == 0
