"""Where each dimension of a captured tensor comes from: from time, from the samples, or from one sample.

A captured tensor [T, B, heads, N] is at each step a node [B, heads, N]. Its axes are (TIME, BATCH, 1, 2): for each of
its dimensions the dimension of the node, or TIME. Dimensions of one sample always stand in the order of the node; what
moves is time and the batch: [heads, B, T, N] has the axes (1, BATCH, TIME, 2). T·B in one dimension counts as BATCH.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Items
from typing import Any

from torch.utils import _pytree as pytree

from spikenm_compile.errors import CaptureError
from spikenm_compile.frontend.time_algebra import Time
from spikenm_compile.frontend.values import Moved, Sequence, Value

Axes = tuple[int, ...]
TIME, BATCH = -1, 0


def axes_of(time: Time, value: Value) -> Axes:
    """Axes of a value."""
    if isinstance(value, Moved):
        return value.axes
    axes = tuple(range(len(time.builder.shape(value.node))))
    if isinstance(value, Sequence):
        return (*axes[: value.dim], TIME, *axes[value.dim :])
    return axes


def in_front(time: Time, value: Value) -> Value:
    """The same value with time and samples in front: what a call on whole steps works on."""
    if isinstance(value, Moved):
        return value.value
    settled = time.settled(value)
    return Sequence(settled.node, settled.length) if isinstance(settled, Sequence) else settled


def placed(value: Value, axes: Axes) -> Value:
    """A value with time and samples in front, as it stands in the captured graph with these axes."""
    samples_lead = next(axis for axis in axes if axis != TIME) == BATCH
    if samples_lead:
        return Sequence(value.node, value.length, axes.index(TIME)) if isinstance(value, Sequence) else value
    assert not isinstance(value, Moved)
    return Moved(value, axes)  # type: ignore[arg-type]


def renumbered(axes: Items[int]) -> Axes:
    """Axes after dimensions went or came: those of one sample are counted anew, in the order in which they stand."""
    count = iter(range(1, len(axes) + 1))
    return tuple(next(count) if axis > BATCH else axis for axis in axes)


def sample_axis(time: Time, value: Value, dim: int, what: str) -> int:
    """Dimension of the node that dimension `dim` of the captured tensor is.

    Raises:
        CaptureError: it is time, or holds the samples.
    """
    axis = axes_of(time, value)[dim]
    if axis > BATCH:
        return axis
    mixed = "time steps" if axis == TIME else "samples"
    raise CaptureError(
        f"{what} over dimension {dim} of {list(time.shape(value))} combines {mixed}; a step graph computes each "
        f"sample of each step by itself; apply {what} to the other dimensions"
    )


def emit(time: Time, function: Callable[..., Any], args: tuple[Any, ...], axes: Axes) -> Value:
    """`function(*args)` at each step, `args` holding values; its result has these axes in the captured graph."""
    cores = [in_front(time, leaf) for leaf in pytree.tree_leaves(args) if isinstance(leaf, Value)]
    of_step = pytree.tree_map(lambda leaf: in_front(time, leaf).node if isinstance(leaf, Value) else leaf, args)
    return placed(time.function(function, cores, of_step, function.__name__), axes)
