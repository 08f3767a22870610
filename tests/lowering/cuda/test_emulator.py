"""The emulator notices what a kernel does wrong, each time that it is done: mutations of a kernel that is right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from lowering.cuda.conv_cases import Case, Operands, arrays, assert_equal, operands
from lowering.cuda.emulator import EmulationError, Schedule, launch, needs_compiler
from numpy.typing import NDArray

from spikenm_compile.levels import Levels
from spikenm_compile.lowering.cuda.build import build_kernel
from spikenm_compile.lowering.cuda.generated import GeneratedKernel, Gpu

pytestmark = needs_compiler

CASE = Case(128, 32, (4, 4), steps=2)
COUNTS = replace(CASE, levels=Levels(0, 255))
EARLY_OR_LATE = (Schedule(False, 0), Schedule(False, 1), Schedule(True, 0), Schedule(True, 1), Schedule(True, 2))


@cache
def kernel_of(case: Case) -> GeneratedKernel:
    return build_kernel(case.spec, Gpu(multiprocessors=1), case.batch)


def mutated(case: Case, old: str, new: str) -> GeneratedKernel:
    source = kernel_of(case).source
    assert old in source
    return replace(kernel_of(case), source=source.replace(old, new))


def check(case: Case, kernel: GeneratedKernel, given: Operands, schedule: Schedule) -> None:
    assert_equal(case, given, launch(kernel, arrays(case, given, kernel), case.batch, schedule))


@pytest.mark.parametrize("schedule", EARLY_OR_LATE, ids=str)
def test_right_under_every_schedule(schedule: Schedule) -> None:
    check(CASE, kernel_of(CASE), operands(CASE), schedule)


@pytest.mark.parametrize(
    ("case", "old", "new"),
    [
        (CASE, "cp.async.wait_group 2;", "cp.async.wait_group 3;"),
        (CASE, "    __syncthreads();", "    ;"),
        (COUNTS, ".s32.s8.u8.s32", ".s32.s8.s8.s32"),
        pytest.param(CASE, ".s32.s8.u8.s32", ".s32.u8.u8.s32", marks=pytest.mark.long),
        pytest.param(CASE, "(uint)16843009", "(uint)16843008", marks=pytest.mark.long),
    ],
    ids=["waits for too few copies", "no barrier", "levels signed", "weights unsigned", "wrong bits"],
)
def test_wrong_numbers(case: Case, old: str, new: str) -> None:
    # memory that is read too early holds no metadata either
    with pytest.raises((AssertionError, EmulationError), match=r"not equal|ascending"):
        check(case, mutated(case, old, new), operands(case), Schedule(copies_land_late=True, seed=1))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("    __syncthreads();", "    if (threadIdx.x != 3) __syncthreads();", "wait for others that never come"),
        ("[%1], 16;", "[%1], 64;", "is not aligned|beyond shared"),
        (", 4, 32)", ", 4, 32) + (threadIdx.x == 7 ? __ballot_sync(0, 1) : 0)", "meets at"),
        ("mma.sp::ordered_metadata.sync", "mma.sp.sync", "does not know the instruction"),
    ],
    ids=["missing thread", "bad copy", "divergence", "unknown instruction"],
)
def test_undefined_behaviour(old: str, new: str, message: str) -> None:
    with pytest.raises(EmulationError, match=message):
        check(CASE, mutated(CASE, old, new), operands(CASE), Schedule())


def given_arrays(change: Callable[[dict[str, NDArray[Any]]], None]) -> dict[str, NDArray[Any]]:
    given = arrays(CASE, operands(CASE), kernel_of(CASE))
    change(given)
    return given


def test_metadata_out_of_order() -> None:
    def swap(given: dict[str, NDArray[Any]]) -> None:
        words = given["weights"][..., 128:]
        words[:] = (words & 0x33333333) << 2 | words >> 2 & 0x33333333

    with pytest.raises(EmulationError, match="ascending"):
        launch(kernel_of(CASE), given_arrays(swap), CASE.batch)


def test_writes_outside_of_a_buffer() -> None:
    def shorten(given: dict[str, NDArray[Any]]) -> None:
        given["state_v"] = given["state_v"][:, :3].copy()

    with pytest.raises(EmulationError, match="wrote outside of 'state_v'"):
        launch(kernel_of(CASE), given_arrays(shorten), CASE.batch)


def test_operands_of_the_mutations_do_something() -> None:
    torch.manual_seed(0)
    given = operands(CASE)
    after = launch(kernel_of(CASE), arrays(CASE, given, kernel_of(CASE)), CASE.batch)
    assert 0 < np.unpackbits(after["out"].view(np.uint8)).mean() < 0.5
