"""Reshaping in time: between [T, B, ...] and [T·B, ...], within each sample, and repeating a static input T times."""

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


def repeat(time: Time, value: Value, *sizes: Any) -> Value:
    """`x.repeat(T, 1, ...)` on [B, ...] or on [1, B, ...], `x.repeat(1, T, ...)` on [B, 1, ...]."""
    counts, dim = flat_sizes(sizes), _time_dim(value)
    if any(n != 1 for i, n in enumerate(counts) if i != dim):
        raise CaptureError(
            f"repeat{counts} repeats more than time; only time can be repeated; use x.unsqueeze(0).repeat(T, 1, ...)"
        )
    return _sequence(time, value, counts[dim], len(counts), f"repeat{counts}")


def expand(time: Time, value: Value, *sizes: Any) -> Value:
    """`x.expand(T, B, ...)` on [B, ...] or on [1, B, ...], `x.expand(B, T, ...)` on [B, 1, ...]."""
    target, dim = flat_sizes(sizes), _time_dim(value)
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
    """`value` with the shape `after`: another layout of time, other dimensions of each sample, or both."""
    batch, *sample = time.builder.shape(value.node)
    fits: list[tuple[Value, Shape]] = []
    for layout in _layouts(value):
        leading = _leading(layout, batch)
        rest = after[len(leading) :]
        if after[: len(leading)] == leading and math.prod(rest) == math.prod(sample):
            fits.append((layout, rest))
    if fits:  # sizes of one look alike: samples that stay as they are, or become vectors, are meant first
        return _samples_to(time, *min(fits, key=lambda fit: (fit[1] != tuple(sample), len(fit[1]) > 1)))
    raise CaptureError(
        f"{method} from {list(time.shape(value))} to {list(after)} mixes samples or time with other dimensions; moving "
        "time into or out of the batch and reshaping each sample are supported; use flatten(0, 1), unflatten(0, (T, "
        "B)) or flatten(2)"
    )


def _samples_to(time: Time, value: Value, sizes: Shape) -> Value:
    """Each sample reshaped to `sizes`."""
    before = time.builder.shape(value.node)[1:]
    if sizes == before:
        return value
    if len(sizes) == 1:
        return time.layer(f"flatten_{value.node.name}", nn.Flatten().eval(), value)
    return time.function(torch.reshape, [value], (value.node, (-1, *sizes)), "reshape")


def _layouts(value: Value) -> tuple[Value, ...]:
    if isinstance(value, Sequence):
        return (value, Flat(value.node, value.length, value.dim)) if value.dim <= 1 else ()
    if isinstance(value, Flat):
        return value, Sequence(value.node, value.length, value.dim)
    return (value,)


def _leading(layout: Value, batch: int) -> Shape:
    """Sizes of the dimensions that hold time and samples."""
    if isinstance(layout, Sequence):
        return (layout.length, batch) if layout.dim == 0 else (batch, layout.length)
    return (layout.length * batch,) if isinstance(layout, Flat) else (batch,)


def flat_sizes(sizes: tuple[Any, ...]) -> Shape:
    """Sizes or dimensions that are given one by one, or as one tuple."""
    return tuple(sizes[0]) if len(sizes) == 1 and isinstance(sizes[0], tuple | list) else tuple(sizes)
