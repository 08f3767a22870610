"""Dimensions of each sample: their order, and parts of them.

Each rule finds out which dimension of one step a dimension of the captured tensor is. Taking single steps out of a
sequence is left to `spikenm_compile.frontend.readout`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch

from spikenm_compile.errors import CaptureError
from spikenm_compile.frontend import readout, reshape
from spikenm_compile.frontend.axes import BATCH, axes_of, emit, in_front, placed, renumbered, sample_axis
from spikenm_compile.frontend.time_algebra import Time
from spikenm_compile.frontend.values import Sequence, Static, Value
from spikenm_compile.ops import sliced


def permute(time: Time, value: Value, *dims: Any) -> Value:
    """`x.permute(0, 1, 3, 2)`: any order; time and samples may move, and come to the front again later."""
    order = reshape.flat_sizes(dims)
    axes = axes_of(time, value)
    if sorted(d % len(axes) for d in order) != list(range(len(axes))):
        raise CaptureError(f"permute{order} does not name each of {len(axes)} dimensions once; give each of them once")
    moved = [axes[d] for d in order]
    of_node = (BATCH, *(axis for axis in moved if axis > BATCH))
    if of_node == tuple(range(len(of_node))):
        return placed(in_front(time, value), tuple(moved))
    return emit(time, torch.permute, (value, of_node), renumbered(moved))


def transpose(time: Time, value: Value, dim0: int, dim1: int) -> Value:
    """`x.transpose(0, 1)` between [T, B, ...] and [B, T, ...], `x.transpose(-2, -1)` within each sample."""
    order = list(range(len(axes_of(time, value))))
    order[dim0], order[dim1] = order[dim1], order[dim0]
    return permute(time, value, *order)


def movedim(time: Time, value: Value, source: int, destination: int) -> Value:
    """`x.movedim(2, 0)`: one dimension to another place."""
    rank = len(axes_of(time, value))
    order = [d for d in range(rank) if d != source % rank]
    order.insert(destination % rank, source % rank)
    return permute(time, value, *order)


def unsqueeze(time: Time, value: Value, dim: int) -> Value:
    """A new dimension of one sample; in front of an input without time it is time, usually to be repeated."""
    if isinstance(value, Static) and dim in (0, 1):
        return Sequence(value.node, 1, dim)
    axes = list(axes_of(time, value))
    position = dim % (len(axes) + 1)
    axis = 1 + sum(a > BATCH for a in axes[:position])
    axes.insert(position, axis)
    sizes = list(time.builder.shape(value.node))
    sizes.insert(axis, 1)
    return emit(time, torch.reshape, (value, (-1, *sizes[1:])), renumbered(axes))


def select(time: Time, value: Value, dim: int, index: int) -> Value:
    """Step `index` of a sequence, or one index of a dimension of each sample."""
    axes = axes_of(time, value)
    if axes[dim] <= BATCH or not isinstance(index, int):
        return readout.select(time, value, dim % len(axes), index)
    left = [axis for d, axis in enumerate(axes) if d != dim % len(axes)]
    return emit(time, torch.select, (value, axes[dim], index), renumbered(left))


def narrow(time: Time, value: Value, dim: int, start: int, length: int) -> Value:
    """`length` indices of a dimension of each sample."""
    axis = sample_axis(time, value, dim, "narrow")
    return _sliced(time, value, axis, slice(start % time.builder.shape(value.node)[axis], None), length)


def item(time: Time, value: Any, index: Any) -> Any:
    """`x[t]`, `x[:, :, 0]`, `x[..., ::2]`, `x[:, None]`, and element `index` of a tuple."""
    if not isinstance(value, Value):
        return readout.item(time, value, index)
    indices = list(index) if isinstance(index, tuple) else [index]
    if not all(i is None or i is ... or isinstance(i, int | slice) for i in indices):
        return readout.item(time, value, index)
    rank, named = len(axes_of(time, value)), sum(i is not None and i is not ... for i in indices)
    if ... in indices:
        at = indices.index(...)
        indices[at : at + 1] = [slice(None)] * (rank - named)
    dim = 0
    for i in indices:
        if isinstance(i, int):
            value = select(time, value, dim, i)
            continue
        if i is None:
            value = unsqueeze(time, value, dim)
        elif i != slice(None):
            value = _sliced(time, value, sample_axis(time, value, dim, f"the slice {_text(i)}"), i)
        dim += 1
    return value


def _sliced(time: Time, value: Value, axis: int, part: slice, length: int | None = None) -> Value:
    size = time.builder.shape(value.node)[axis]
    start, stop, step = part.indices(size)
    stop = stop if length is None else start + length
    return emit(time, sliced, (value, axis, start, stop, step), axes_of(time, value))


def _text(part: slice) -> str:
    return ":".join("" if i is None else str(i) for i in (part.start, part.stop, part.step))


def unbind(time: Time, value: Value, dim: int = 0) -> tuple[Value, ...]:
    """All steps of a sequence, or all indices of a dimension of each sample."""
    return tuple(select(time, value, dim, index) for index in range(time.shape(value)[dim]))


def pieces(method: str) -> Callable[..., tuple[Value, ...]]:
    """Rule of a method that cuts a dimension of each sample into pieces: chunk, split, tensor_split."""

    def rule(time: Time, value: Value, *args: Any, **kwargs: Any) -> tuple[Value, ...]:
        dim = kwargs.pop("dim", args[1] if len(args) > 1 else 0)
        sections = args[0] if args else next(iter(kwargs.values()))
        axis = sample_axis(time, value, dim, method)
        stops = [0]
        for piece in getattr(torch.empty(time.shape(value), device="meta"), method)(sections, dim):
            stops.append(stops[-1] + piece.shape[dim])
        return tuple(_sliced(time, value, axis, slice(*bounds)) for bounds in itertools.pairwise(stops))

    return rule
