"""Operations on dimensions of each sample in time: putting together, reductions, and the table of all such rules.

A rule takes dimensions of one sample; those that are time or samples it refuses, or leaves to the rule for time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

from spikenm_compile.errors import CaptureError
from spikenm_compile.frontend import readout, reshape
from spikenm_compile.frontend.axes import BATCH, axes_of, emit, renumbered, sample_axis
from spikenm_compile.frontend.sample_dims import (
    item,
    movedim,
    narrow,
    permute,
    pieces,
    select,
    transpose,
    unbind,
    unsqueeze,
)
from spikenm_compile.frontend.sample_products import einsum, matmul
from spikenm_compile.frontend.time_algebra import Time
from spikenm_compile.frontend.values import Step, Value

Rule = Callable[..., Any]


def cat(time: Time, values: Any, dim: int = 0) -> Value:
    """The steps of a loop put together in the batch, or values along a dimension of each sample."""
    if dim == 0 and len({value.t for value in values if isinstance(value, Step)}) > 1:
        return readout.concatenate(time, values)
    first = _alike(time, values, "cat")
    axis = sample_axis(time, first, dim, "cat")
    return emit(time, torch.cat, (tuple(values), axis), axes_of(time, first))


def stack(time: Time, values: Any, dim: int = 0) -> Value:
    """The steps of a loop put together, or different values along a new dimension of each sample."""
    steps = {value.t for value in values if isinstance(value, Step)}
    if len(steps) > 1 or len({value.node for value in values if isinstance(value, Value)}) == 1:
        return readout.stack(time, values, dim)
    axes = list(axes_of(time, _alike(time, values, "stack")))
    position = dim % (len(axes) + 1)
    axis = 1 + sum(a > BATCH for a in axes[:position])
    axes.insert(position, axis)
    return emit(time, torch.stack, (tuple(values), axis), renumbered(axes))


def _alike(time: Time, values: Any, what: str) -> Value:
    """The first of values that have their dimensions in the same order."""
    if not all(isinstance(value, Value) for value in values):
        raise CaptureError(
            f"{what} takes a constant; a step graph puts values of one step together; put the constant into a layer, "
            "or add it"
        )
    if len({axes_of(time, value) for value in values}) > 1:
        shapes = ", ".join(str(list(time.shape(value))) for value in values)
        raise CaptureError(
            f"{what} takes values {shapes} that have time or samples in different dimensions; all must be laid out "
            "alike; permute them first"
        )
    first: Value = values[0]
    return first


class MaxOverSample(NamedTuple):
    """What `x.max(dim)` returns; where the maximum stands is not known to a step graph."""

    values: Value
    indices: None = None


def reduction(function: Callable[..., Any], over_time: Rule) -> Rule:
    """Rule of a reduction: over dimensions of each sample; over any others what `over_time` says."""

    def rule(time: Time, value: Any, dim: Any = None, keepdim: bool = False) -> Any:
        dims = tuple(dim) if isinstance(dim, tuple | list) else (dim,)
        axes = axes_of(time, value)
        if not all(isinstance(d, int) and axes[d] > BATCH for d in dims):
            return over_time(time, value, dim, keepdim)
        of_node = tuple(axes[d] for d in dims)
        left = axes if keepdim else renumbered([axis for axis in axes if axis not in of_node])
        return emit(time, function, (value, of_node, keepdim), left)

    return rule


def maximum(time: Time, value: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """`x.max(0)`: values and indices."""
    found = reduction(torch.amax, readout.maximum)(time, value, dim, keepdim)
    return MaxOverSample(found) if isinstance(found, Value) else found


def softmax(time: Time, value: Value, dim: int, *args: Any, **kwargs: Any) -> Value:
    """Softmax over a dimension of each sample."""
    axis = sample_axis(time, value, dim, "softmax")
    return emit(time, torch.softmax, (value, axis), axes_of(time, value))


def roll(time: Time, value: Value, shifts: Any, dims: Any = None) -> Value:
    """A shift, with what falls out coming in again, along dimensions of each sample."""
    of_node = tuple(sample_axis(time, value, d, "roll") for d in (dims if isinstance(dims, tuple | list) else (dims,)))
    shifts = tuple(shifts) if isinstance(shifts, tuple | list) else (shifts,)
    return emit(time, torch.roll, (value, shifts, of_node), axes_of(time, value))


def pad(time: Time, x: Value, pad: Any, mode: str = "constant", value: float | None = None) -> Value:
    """Padding of the last dimensions, all of them dimensions of each sample."""
    for dim in range(1, len(pad) // 2 + 1):
        sample_axis(time, x, -dim, "pad")
    return emit(time, F.pad, (x, tuple(pad), mode, value), axes_of(time, x))


SAMPLE_RULES: dict[str, Rule] = {
    **{name: reshape.rule(name) for name in ("flatten", "view", "reshape", "unflatten", "squeeze")},
    "permute": permute,
    **dict.fromkeys(("transpose", "swapaxes", "swapdims"), transpose),
    "movedim": movedim,
    "unsqueeze": unsqueeze,
    "select": select,
    "narrow": narrow,
    "getitem": item,
    "unbind": unbind,
    **{name: pieces(name) for name in ("chunk", "split", "tensor_split")},
    **dict.fromkeys(("cat", "concat", "concatenate"), cat),
    "stack": stack,
    "sum": reduction(torch.sum, readout.total),
    "mean": reduction(torch.mean, readout.mean),
    "max": maximum,
    "amax": reduction(torch.amax, readout.largest),
    "softmax": softmax,
    "roll": roll,
    "pad": pad,
    **dict.fromkeys(("matmul", "bmm"), matmul),
    "einsum": einsum,
}
"""Name of a function or tensor method -> its rule."""
