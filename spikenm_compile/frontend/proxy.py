"""Proxies that know the shape of the tensor they stand for, so that python control flow on shapes can be traced.

A proxy's value is `node.meta["val"]`: a FakeTensor, a python number or tuple, or absent where it is not known. Sizes
are recorded in the graph as `size` calls and stay right for other batch sizes; only where python itself needs the
number (`range`, `if`, `len`) the number seen at capture is used.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.fx import Proxy

VALUE = "val"
LINE = "line"
"""Key of `node.meta`: where in the user's code the node was made, for messages."""
_ANSWERED = (
    *("dtype", "device", "layout", "ndim", "is_cuda", "is_sparse", "is_quantized", "itemsize", "requires_grad"),
    *("dim", "ndimension", "numel", "stride", "get_device", "is_contiguous", "is_floating_point", "element_size"),
)
"""Attributes and methods that are answered as of the capture and not recorded."""


class Sizes(tuple[Any, ...]):
    """The shape of a traced tensor: like torch.Size, but each size is a proxy."""

    __slots__ = ()

    def numel(self) -> Any:
        """Product of all sizes."""
        product: Any = 1
        for size in self:
            product = product * size
        return product


class ShapeProxy(Proxy):
    """A traced value with its known shape or number."""

    @property
    def value(self) -> Any:
        """FakeTensor or python value."""
        return self.node.meta[VALUE]

    def __getattr__(self, k: str) -> Any:
        value = self.value
        if isinstance(value, Tensor):
            if k == "shape":
                return self.size()
            if k in _ANSWERED:
                return getattr(value, k)
            if k == "size":
                return self._size
        if isinstance(value, tuple) and k in getattr(value, "_fields", ()):
            return self.tracer.create_proxy("call_function", getattr, (self, k), {})
        return super().__getattr__(k)

    def _size(self, dim: int | None = None) -> Any:
        if dim is not None:
            return self.tracer.create_proxy("call_method", "size", (self, dim), {})
        return Sizes(self._size(i) for i in range(self.value.dim()))

    def __len__(self) -> int:
        return len(self.value)

    def __iter__(self) -> Iterator[Any]:
        return iter([self[i] for i in range(len(self.value))])  # type: ignore[index]

    def __bool__(self) -> bool:
        return bool(self.value) if _is_number(self.value) else super().__bool__()

    def __index__(self) -> int:
        if isinstance(self.value, int):
            return self.value
        raise TypeError(f"'{self.node.name}' stands for a tensor whose values are not known during capture")

    def __int__(self) -> int:
        return self.__index__()

    def __float__(self) -> float:
        return float(self.__index__())

    def __setitem__(self, key: Any, value: Any) -> None:
        self.tracer.create_proxy("call_function", operator.setitem, (self, key, value), {})

    def __hash__(self) -> int:
        return hash(self.value) if _is_number(self.value) else id(self)


def _is_number(value: Any) -> bool:
    return isinstance(value, bool | int | float)


def _compare(name: str) -> Any:
    def method(self: ShapeProxy, other: Any) -> Any:
        number = other.value if isinstance(other, ShapeProxy) else other
        if _is_number(self.value) and _is_number(number):
            return getattr(operator, name)(self.value, number)
        return self.tracer.create_proxy("call_function", getattr(operator, name), (self, other), {})

    return method


for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    setattr(ShapeProxy, f"__{_name}__", _compare(_name))


def value_of(argument: Any) -> Any:
    """Known value of a proxy; anything else as it is."""
    return argument.value if isinstance(argument, ShapeProxy) else argument


def is_unknown(argument: Any) -> bool:
    """Whether `argument` is a proxy whose value is not known."""
    return isinstance(argument, Proxy) and argument.node.meta.get(VALUE) is None


def is_real(argument: Any) -> bool:
    """Whether `argument` is a tensor that holds data."""
    return isinstance(argument, Tensor) and not isinstance(argument, torch._subclasses.FakeTensor)
