"""DLPack both ways, against PyTorch and numpy in the memory of the host."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import torch

from spikenm_compile.errors import InputError
from spikenm_compile.runtime import dlpack
from spikenm_compile.runtime.dlpack import CPU, borrow, lend


class Array:
    """Six numbers that are lent."""

    def __init__(self) -> None:
        self.values = np.arange(6, dtype=np.float32)

    def __dlpack__(self, **_options: object) -> object:
        return lend(self.values.ctypes.data, (2, 3), (CPU, 0), self)

    def __dlpack_device__(self) -> tuple[int, int]:
        return CPU, 0


def test_a_tensor_is_borrowed_in_place() -> None:
    x = torch.rand(4, 3)[1:]
    borrowed = borrow(x, 0)
    assert (borrowed.pointer, borrowed.shape, borrowed.device) == (x.data_ptr(), (3, 3), (CPU, 0))


def test_a_dimension_of_one_may_have_any_stride() -> None:
    assert borrow(torch.rand(4, 3)[:1], 0).shape == (1, 3)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(2, dtype=torch.float64), "not of float32"),
        (torch.zeros(2, 3).T, r"\[3, 2\] is not contiguous"),
        ("text", "a str, which has no DLPack interface"),
    ],
)
def test_what_cannot_be_borrowed(x: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        borrow(x, 0)


@pytest.mark.parametrize("take", [torch.utils.dlpack.from_dlpack, np.from_dlpack])
def test_what_is_lent_lives_as_long_as_its_reader(take: object) -> None:
    array = Array()
    owner = weakref.ref(array)
    taken = take(array)  # type: ignore[operator]
    del array
    gc.collect()
    assert owner() is not None
    assert np.asarray(taken).tolist() == [[0, 1, 2], [3, 4, 5]]
    del taken
    gc.collect()
    assert owner() is None
    assert not dlpack._lent


def test_a_capsule_that_nobody_takes_is_given_back() -> None:
    array = Array()
    owner = weakref.ref(array)
    capsule = array.__dlpack__()
    del array
    assert owner() is not None
    del capsule
    gc.collect()
    assert owner() is None
