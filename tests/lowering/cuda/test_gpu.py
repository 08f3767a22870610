"""The convolutions of the emulator's tests on a GPU."""

from __future__ import annotations

import pytest
from lowering.cuda.conv_cases import Case, arrays, assert_equal, operands
from lowering.cuda.on_gpu import Device, launch_on_gpu, the_gpu
from lowering.cuda.test_conv import CASES
from lowering.cuda.test_elements import DIRECT

from spikenm_compile.lowering.cuda.build import build_kernel
from spikenm_compile.lowering.cuda.generated import Gpu

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def gpu() -> Device:
    found = the_gpu()
    return found if isinstance(found, Device) else pytest.skip(found)


WIDE = {
    "wide": Case(256, 256, (16, 16), steps=4, batch=8),
    "wide, dense": Case(256, 256, (16, 16), steps=4, batch=8, is_sparse=False),
}
ALL = {**CASES, **DIRECT, **WIDE}


@pytest.mark.parametrize("multiprocessors", [1, 1000], ids=["large tiles", "small tiles"])
@pytest.mark.parametrize("name", ALL)
def test_equal(gpu: Device, name: str, multiprocessors: int) -> None:
    case = ALL[name]
    kernel = build_kernel(case.spec, Gpu(multiprocessors=multiprocessors), case.batch)
    given = operands(case)
    assert_equal(case, given, launch_on_gpu(kernel, arrays(case, given, kernel), case.batch, gpu))
