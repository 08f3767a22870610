"""Reshaping in time: between [T, B, ...] and [T·B, ...], repeating a static input T times, flattening each sample."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from spikenm_compile.errors import CaptureError
from spikenm_compile.frontend.time_algebra import Time
from spikenm_compile.frontend.values import Flat, Sequence, Static, Value

Shape = tuple[int, ...]


def rule(method: str) -> Callable[..., Value]:
    """Rule of a tensor method that changes the shape only."""

    def reshaped(time: Time, value: Value, *args: Any, **kwargs: Any) -> Value:
        settled = time.settled(value)
        before = torch.empty(time.shape(settled), device="meta")
        after: Shape = tuple(getattr(before, method)(*args, **kwargs).shape)
        return _to_shape(time, settled, after, method)

    return reshaped


def unsqueeze(time: Time, value: Value, dim: int) -> Value:
    """`x.unsqueeze(0)`, `x.unsqueeze(1)`: a sequence of one step, usually to be repeated."""
    if dim in (0, 1) and isinstance(value, Static):
        return Sequence(value.node, 1, dim)
    raise CaptureError(
        f"unsqueeze({dim}) has no form in a step graph; unsqueeze(0) or (1) of an input without time is supported; "
        "repeat the input with x.unsqueeze(0).repeat(T, 1, ...)"
    )


def transpose(time: Time, value: Value, dim0: int, dim1: int) -> Value:
    """`x.transpose(0, 1)`: between [T, B, ...] and [B, T, ...]."""
    if isinstance(value, Sequence) and value.dim <= 1 and {dim0, dim1} == {0, 1}:
        return Sequence(value.node, value.length, 1 - value.dim)
    raise CaptureError(
        f"transpose({dim0}, {dim1}) has no form in a step graph; transpose(0, 1) of a sequence [T, B, ...] is "
        "supported; reorder other dimensions outside the model"
    )


def permute(time: Time, value: Value, *dims: Any) -> Value:
    """`x.permute(1, 0, 2, ...)`: between [T, B, ...] and [B, T, ...]."""
    order = _flat(dims)
    if order == tuple(range(len(order))):
        return value
    if order[2:] == tuple(range(2, len(order))):
        return transpose(time, value, *order[:2])
    raise CaptureError(
        f"permute{order} has no form in a step graph; permute(1, 0, 2, ...) of a sequence [T, B, ...] is supported; "
        "reorder other dimensions outside the model"
    )


def repeat(time: Time, value: Value, *sizes: Any) -> Value:
    """`x.repeat(T, 1, ...)` on [B, ...] or on [1, B, ...], `x.repeat(1, T, ...)` on [B, 1, ...]."""
    counts, dim = _flat(sizes), _time_dim(value)
    if any(n != 1 for i, n in enumerate(counts) if i != dim):
        raise CaptureError(
            f"repeat{counts} repeats more than time; only time can be repeated; use x.unsqueeze(0).repeat(T, 1, ...)"
        )
    return _sequence(time, value, counts[dim], len(counts), f"repeat{counts}")


def expand(time: Time, value: Value, *sizes: Any) -> Value:
    """`x.expand(T, B, ...)` on [B, ...] or on [1, B, ...], `x.expand(B, T, ...)` on [B, 1, ...]."""
    target, dim = _flat(sizes), _time_dim(value)
    rest = time.builder.shape(value.node)
    if any(n not in (-1, have) for n, have in zip(target[:dim] + target[dim + 1 :], rest, strict=False)):
        raise CaptureError(
            f"expand{target} changes more than time; only time can be expanded; use x.unsqueeze(0).expand(T, -1, ...)"
        )
    return _sequence(time, value, target[dim], len(target), f"expand{target}")


def _time_dim(value: Value) -> int:
    """Where a value of one step is repeated."""
    return value.dim if isinstance(value, Sequence) else 0


def _sequence(time: Time, value: Value, length: int, rank: int, what: str) -> Sequence:
    is_one_step = isinstance(value, Static) or (isinstance(value, Sequence) and value.length == 1)
    if not is_one_step or rank != len(time.builder.shape(value.node)) + 1:
        raise CaptureError(
            f"{what} has no form in a step graph; repeating an input without time T times in a new first dimension is "
            "supported; use x.unsqueeze(0).repeat(T, 1, ...)"
        )
    time.note_length(length)
    return Sequence(value.node, length, _time_dim(value))


def _to_shape(time: Time, value: Value, after: Shape, method: str) -> Value:
    """`value` with the shape `after`: another layout of time, or each sample flattened, or both."""
    step = time.builder.shape(value.node)
    flattened = (step[0], math.prod(step[1:]))
    for shape in (step, flattened):
        for layout in _layouts(value):
            if _shape_of(layout, shape) == after:
                if shape == step:
                    return layout
                return time.layer(f"flatten_{value.node.name}", nn.Flatten().eval(), layout)
    raise CaptureError(
        f"{method} from {list(time.shape(value))} to {list(after)} mixes samples, time or channels; moving time into "
        "or out of the batch and flattening each sample are supported; use flatten(0, 1), unflatten(0, (T, B)) or "
        "flatten(1)"
    )


def _layouts(value: Value) -> tuple[Value, ...]:
    if isinstance(value, Sequence) and value.dim <= 1:
        return value, Flat(value.node, value.length, value.dim)
    if isinstance(value, Flat):
        return value, Sequence(value.node, value.length, value.dim)
    return (value,)


def _shape_of(layout: Value, step: Shape) -> Shape:
    if isinstance(layout, Sequence):
        return (*step[: layout.dim], layout.length, *step[layout.dim :])
    if isinstance(layout, Flat):
        return (layout.length * step[0], *step[1:])
    return step


def _flat(sizes: tuple[Any, ...]) -> Shape:
    return tuple(sizes[0]) if len(sizes) == 1 and isinstance(sizes[0], tuple | list) else tuple(sizes)
