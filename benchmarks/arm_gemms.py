"""The peer of ARM: the same convolution as a product of int8 matrices (arm_gemm.c), counted by QEMU."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks.arm_counter import SOURCES, compile_program, count
from benchmarks.arm_loops import Loop, disassemble, loops_of
from spikenm_compile.targets.cpu import Cpu

FUNCTION = "peer_conv"
SDOT, SMLAL = "sdot", "smlal"
LOOP_MAC = {SDOT: 8 * 8 * 16, SMLAL: 4 * 4 * 16}
"""What a round of the innermost loop multiplies."""


def instructions_of(cpu: Cpu) -> str:
    """What the peer multiplies with."""
    return SDOT if "+dotprod" in cpu.mattr else SMLAL


@dataclass(frozen=True)
class CountedGemm:
    """What a convolution took, and its innermost loop."""

    instructions: int
    loop: Loop


def count_gemm(weight: torch.Tensor, x: torch.Tensor, cpu: Cpu) -> CountedGemm:
    """Count a convolution with stride 1 whose output is as large as its input.

    Args:
        weight: int8, [O, C, K, K].
        x: int8 values, [T, C, H, W].
        cpu: emulated.

    Raises:
        ToolError: a tool is missing.
    """
    (outputs, channels, kernel, _), (num_steps, _, height, width) = weight.shape, x.shape
    padded = F.pad(x, (kernel // 2,) * 4).permute(0, 2, 3, 1).to(torch.int8).contiguous()
    defined = {
        "HEIGHT": height,
        "WIDTH": width,
        "CHANNELS": channels,
        "OUTPUTS": outputs,
        "KERNEL": kernel,
        "STEPS": num_steps,
    }
    with TemporaryDirectory() as scratch:
        program = Path(scratch) / "gemm"
        compile_program(cpu, [SOURCES / "arm_gemm.c"], program, *(f"-D{k}={v}" for k, v in defined.items()))
        data = padded.numpy().tobytes() + _packed(weight, instructions_of(cpu)).numpy().tobytes()
        counted = count(cpu, program, data)
        loop = loops_of(disassemble(program, cpu, FUNCTION), counted)[0]
    expected = F.conv2d(x.double(), weight.double(), padding=kernel // 2).permute(0, 2, 3, 1)
    found = np.frombuffer(counted.output, np.int32).reshape(expected.shape)
    assert np.array_equal(found, expected.numpy()), "the compiled product is wrong"
    return CountedGemm(counted.by_function()[FUNCTION], loop)


def _packed(weight: torch.Tensor, instructions: str) -> torch.Tensor:
    """[O, C, K, K] in the order of arm_gemm.c."""
    outputs, _, kernel, _ = weight.shape
    runs = weight.permute(0, 2, 3, 1).reshape(outputs, kernel, -1)
    if instructions == SMLAL:
        return runs.reshape(outputs // 4, 4, kernel, -1, 16).permute(0, 2, 3, 1, 4).contiguous()
    return runs.reshape(outputs // 8, 8, kernel, -1, 4, 4).permute(0, 2, 3, 4, 1, 5).contiguous()
