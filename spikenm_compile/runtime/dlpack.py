"""DLPack: arrays of other libraries read, and ours given away, without a copy (dmlc.github.io/dlpack, version 0.8).

A capsule owns its array: whoever holds the capsule may use the memory, and dropping it gives the memory back.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, c_char_p, c_int32, c_int64, c_uint8, c_uint16, c_uint64, c_void_p
from dataclasses import dataclass
from typing import Any

from spikenm_compile.errors import InputError

CPU, CUDA = 1, 2
"""kDLCPU, kDLCUDA."""
_FLOAT, _FLOAT_BITS = 2, 32
_NAME = b"dltensor"


class _Tensor(Structure):
    _fields_ = (
        ("data", c_void_p),
        ("device_type", c_int32),
        ("device_id", c_int32),
        ("ndim", c_int32),
        ("code", c_uint8),
        ("bits", c_uint8),
        ("lanes", c_uint16),
        ("shape", POINTER(c_int64)),
        ("strides", POINTER(c_int64)),
        ("byte_offset", c_uint64),
    )


class _Managed(Structure):
    pass


_Deleter = ctypes.CFUNCTYPE(None, POINTER(_Managed))
_Managed._fields_ = (("tensor", _Tensor), ("manager_context", c_void_p), ("deleter", _Deleter))

_python = ctypes.pythonapi
_python.PyCapsule_GetPointer.restype = c_void_p
_python.PyCapsule_GetPointer.argtypes = (ctypes.py_object, c_char_p)
_python.PyCapsule_New.restype = ctypes.py_object
_python.PyCapsule_New.argtypes = (c_void_p, c_char_p, c_void_p)
# On a capsule that is being dropped, and so must not be counted as an object again.
_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, c_void_p, c_char_p)(("PyCapsule_IsValid", _python))
_pointer_of = ctypes.PYFUNCTYPE(c_void_p, c_void_p, c_char_p)(("PyCapsule_GetPointer", _python))


@dataclass(frozen=True, eq=False)
class Borrowed:
    """A contiguous float32 array of another library, valid as long as this object lives."""

    pointer: int
    shape: tuple[int, ...]
    device: tuple[int, int]
    """(kind, ordinal)."""
    capsule: object


def borrow(array: Any, stream: int) -> Borrowed:
    """Read a float32 array's place.

    Args:
        array: anything with `__dlpack__`.
        stream: that will read it: its library lets the stream wait for what it still computes.

    Raises:
        InputError: it is no such array.
    """
    if not (hasattr(array, "__dlpack__") and hasattr(array, "__dlpack_device__")):
        raise InputError(
            f"the input is a {type(array).__name__}, which has no DLPack interface; tensors of PyTorch and arrays of "
            "CuPy on the GPU are supported; pass one of these, or a numpy array to run()"
        )
    kind, ordinal = (int(part) for part in array.__dlpack_device__())
    capsule = array.__dlpack__(stream=stream) if kind == CUDA else array.__dlpack__()
    tensor = ctypes.cast(_python.PyCapsule_GetPointer(capsule, _NAME), POINTER(_Managed)).contents.tensor
    shape = tuple(tensor.shape[i] for i in range(tensor.ndim))
    if (tensor.code, tensor.bits, tensor.lanes) != (_FLOAT, _FLOAT_BITS, 1):
        raise InputError("the input is not of float32; float32 is supported; convert it first")
    if tensor.strides and not _is_contiguous(shape, tuple(tensor.strides[i] for i in range(tensor.ndim))):
        raise InputError(f"the input {list(shape)} is not contiguous; contiguous arrays are supported; copy it first")
    return Borrowed((tensor.data or 0) + tensor.byte_offset, shape, (kind, ordinal), capsule)


def _is_contiguous(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Whether it lies in C order; the stride of a dimension of one element says nothing."""
    return all(n == 1 or s == own for n, s, own in zip(shape, strides, _strides(shape), strict=True))


def _strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Of C order, in elements."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))


_lent: dict[int, tuple[object, ...]] = {}
"""Address of what is given away -> what must live until it is given back."""


def _give_back(managed: Any) -> None:
    _lent.pop(ctypes.addressof(managed.contents))


_give_back_callback = _Deleter(_give_back)


def _drop_capsule(capsule: int) -> None:
    """A capsule that nobody took dies with its array; whoever takes it renames it."""
    if _is_valid(capsule, _NAME):
        _lent.pop(_pointer_of(capsule, _NAME))


_drop_capsule_callback = ctypes.PYFUNCTYPE(None, c_void_p)(_drop_capsule)


def lend(pointer: int, shape: tuple[int, ...], device: tuple[int, int], owner: object) -> object:
    """A capsule of a contiguous float32 array that keeps `owner` alive."""
    sizes, strides = (c_int64 * len(shape))(*shape), (c_int64 * len(shape))(*_strides(shape))
    kind, ordinal = device
    tensor = _Tensor(pointer, kind, ordinal, len(shape), _FLOAT, _FLOAT_BITS, 1, sizes, strides, 0)
    managed = _Managed(tensor, None, _give_back_callback)
    address = ctypes.addressof(managed)
    _lent[address] = (managed, sizes, strides, owner)
    capsule: object = _python.PyCapsule_New(address, _NAME, ctypes.cast(_drop_capsule_callback, c_void_p))
    return capsule
