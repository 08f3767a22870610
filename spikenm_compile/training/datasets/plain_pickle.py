"""Pickles of plain data: dicts, lists, texts, numbers and arrays of numbers. Nothing that a pickle names is run.

A pickle may name any function of any module, and loading it calls them. Here the three names that numpy's arrays need
stand for recorders of their state, every other name is refused, and arrays are made from the checked state afterwards.
"""

from __future__ import annotations

import io
import math
import pickle
from pathlib import Path

import numpy as np

from spikenm_compile.training.datasets.files import damaged, read_bytes

Plain = object
"""dict, list, tuple, bytes, str, int, float, bool, None or array."""


class ForbiddenNameError(pickle.UnpicklingError):
    """A name that plain data does not need."""


class _TypeState:
    """Stands for a numpy.dtype: the text that names it, and its state, whose second entry is the byte order."""

    def __init__(self, name: object, *_: object) -> None:
        self.name = name
        self.state: object = None

    def __setstate__(self, state: object) -> None:
        self.state = state

    def dtype(self) -> np.dtype[np.generic]:
        """The type of plain numbers that this state means."""
        name = self.name.decode("ascii") if isinstance(self.name, bytes) else self.name
        order = self.state[1] if isinstance(self.state, tuple) and len(self.state) > 1 else None
        order = order.decode("ascii") if isinstance(order, bytes) else order
        if (
            not isinstance(name, str)
            or name[:1] not in "biuf"
            or not name[1:].isdigit()
            or order not in ("|", "<", ">")
        ):
            raise ValueError(f"an array of type {name!r}, byte order {order!r}")
        return np.dtype(order + name)


class _ArrayState:
    """Stands for an array under construction; its state is (version, shape, type, is Fortran order, bytes)."""

    def __init__(self, *_: object) -> None:
        self.state: object = None

    def __setstate__(self, state: object) -> None:
        self.state = state

    def array(self) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
        """The array that this state means."""
        if not isinstance(self.state, tuple) or len(self.state) != 5:
            raise ValueError("an array without its state")
        _, shape, kind, is_fortran, data = self.state
        if not isinstance(kind, _TypeState) or not isinstance(data, bytes) or not isinstance(shape, tuple):
            raise ValueError("an array that is not of plain numbers")
        dtype = kind.dtype()
        if not all(type(n) is int and n >= 0 for n in shape) or math.prod(shape) * dtype.itemsize != len(data):
            raise ValueError(f"an array of shape {shape} in {len(data)} bytes")
        return np.frombuffer(data, dtype).reshape(shape, order="F" if is_fortran else "C")


_STAND_INS: dict[tuple[str, str], type | None] = {
    (module, name): stand_in
    for name, stand_in in (("_reconstruct", _ArrayState), ("ndarray", None), ("dtype", _TypeState))
    for module in ("numpy", "numpy.core.multiarray", "numpy._core.multiarray")
}
"""ndarray is only ever an argument of the first."""


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type | None:
        """The stand-in for a name."""
        if (module, name) not in _STAND_INS:
            raise ForbiddenNameError(f"the name {module}.{name}")
        return _STAND_INS[module, name]

    def persistent_load(self, _pid: object) -> object:
        """Refused: it would ask this program for an object."""
        raise ForbiddenNameError("a persistent id")


def load_plain(path: Path) -> Plain:
    """The content of a pickle of plain data; texts that Python 2 wrote are bytes.

    Raises:
        DataError: the file is cut off or damaged, or holds anything but plain data.
    """
    data = read_bytes(path)
    if not data:
        raise damaged(path, 0, "the file is empty", "a pickle is expected")
    file = io.BytesIO(data)
    try:
        return _plain(_PlainUnpickler(file, encoding="bytes").load())
    except ForbiddenNameError as error:
        raise damaged(
            path, file.tell(), str(error), "only arrays, texts, numbers, lists and dicts are loaded"
        ) from error
    except Exception as error:  # a damaged pickle may raise any: the machine that it drives meets nonsense
        raise damaged(
            path, file.tell(), f"no pickle of plain data ({error})", "it ends behind the last entry"
        ) from error


def _plain(value: object) -> Plain:
    """`value` with arrays for their recorded states."""
    if isinstance(value, _ArrayState):
        return value.array()
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    if isinstance(value, tuple):
        return tuple(_plain(entry) for entry in value)
    return value
