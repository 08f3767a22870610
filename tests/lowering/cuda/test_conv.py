"""Convolution kernels on the emulator equal the operations of the lowered graph, at awkward sizes."""

from __future__ import annotations

import pytest
from lowering.cuda.conv_cases import Case, arrays, assert_equal, operands
from lowering.cuda.emulator import Schedule, launch, needs_compiler

from spikenm_compile.lowering.cuda.build import build_kernel
from spikenm_compile.lowering.cuda.generated import Gpu

pytestmark = needs_compiler

SMALL = Gpu(multiprocessors=1)
"""Takes the largest tile; with more multiprocessors, small batches get smaller tiles."""


def check(case: Case, gpu: Gpu = SMALL, schedule: Schedule = Schedule()) -> None:
    kernel = build_kernel(case.spec, gpu, case.batch)
    given = operands(case)
    assert_equal(case, given, launch(kernel, arrays(case, given, kernel), case.batch, schedule))


CASES = [
    Case(64, 64),
    Case(3, 17, (9, 7)),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equal(case: Case) -> None:
    check(case)
