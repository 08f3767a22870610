"""Over time: taking single steps out of a sequence, putting steps together, and reductions over all steps."""

from __future__ import annotations

import operator
from typing import Any, NamedTuple

from torch import Tensor
from torch.fx import Node

from spikenm_compile.errors import CaptureError
from spikenm_compile.frontend.time_algebra import Time
from spikenm_compile.frontend.values import Collected, Final, Flat, Reduce, Running, Sequence, Static, Step, Value
from spikenm_compile.graph import REGION, Region


def select(time: Time, value: Value, dim: int, index: int) -> Value:
    """Step `index` of a sequence."""
    if not isinstance(value, Sequence) or dim != value.dim or not isinstance(index, int):
        raise CaptureError(
            f"index {index!r} in dimension {dim} has no form in a step graph; single time steps x[t] of a sequence "
            "[T, B, ...], or x[:, t] of [B, T, ...], can be taken; select channels or samples outside the model"
        )
    time.note_length(value.length)
    return Step(value.node, index % value.length)


def item(time: Time, value: Any, index: Any) -> Any:
    """`x[t]`, `x[:, t]`, and element `index` of what a reduction returns."""
    if isinstance(value, tuple | list):
        return value[index]
    dim, t = _time_index(index)
    return select(time, value, dim, t)


def _time_index(index: Any) -> tuple[int, Any]:
    """(dimension, step) of the index in x[t], x[:, t], x[:, t, ...]; an index of another kind is its own step."""
    parts = index if isinstance(index, tuple) else (index,)
    dim = next((i for i, part in enumerate(parts) if part != slice(None)), 0)
    is_one = dim <= 1 and all(part in (slice(None), ...) for part in parts[dim + 1 :])
    return (dim, parts[dim]) if is_one else (0, index)


def unbind(time: Time, value: Value, dim: int = 0) -> tuple[Value, ...]:
    """All steps of a sequence."""
    return tuple(select(time, value, dim, t) for t in range(time.shape(value)[dim]))


def stack(time: Time, values: Any, dim: int = 0) -> Sequence:
    """Steps 0..T-1 put together, or one static value T times."""
    steps = [time.settled(v) for v in values]
    same = all(v.node is steps[0].node for v in steps)
    in_order = all(isinstance(v, Static) or (isinstance(v, Step) and v.t == t) for t, v in enumerate(steps))
    if not same or not in_order:
        raise CaptureError(
            f"torch.stack puts {len(steps)} different values together; the same value of the steps 0..T-1 in order is "
            "supported; collect one output per time step in a list"
        )
    time.note_length(len(steps))
    return Sequence(steps[0].node, len(steps), dim)


def concatenate(time: Time, values: Any) -> Flat:
    """Steps 0..T-1 put together in the batch dimension."""
    sequence = stack(time, values)
    return Flat(sequence.node, sequence.length)


def assign(time: Time, target: Any, index: Any, value: Value) -> Collected | Sequence:
    """`out[t] = value` or `out[:, t] = value` into a new tensor `out`, at each step in turn, until all are there."""
    dim, t = _time_index(index)
    if not isinstance(target, Collected):
        target = Collected((), target.shape[dim] if isinstance(target, Tensor) else time.num_steps)
    if not isinstance(t, int) or not isinstance(value, Step) or not t == value.t == len(target.values):
        raise CaptureError(
            f"step {len(target.values)} of a sequence is written with index {index!r}; writing the value of each step "
            "t to out[t], in order, is supported; collect the steps in a list and use torch.stack"
        )
    values = (*target.values, value)
    return stack(time, values, dim) if len(values) == target.size else Collected(values, target.size)


def total(time: Time, value: Value, dim: Any = None, keepdim: bool = False) -> Running:
    """Sum over time."""
    return _reduced(time, value, dim, keepdim, Reduce.SUM)


def mean(time: Time, value: Value, dim: Any = None, keepdim: bool = False) -> Final:
    """Mean over time."""
    return time.mean(_reduced(time, value, dim, keepdim, Reduce.SUM))


def largest(time: Time, value: Value, dim: Any = None, keepdim: bool = False) -> Running:
    """Maximum over time."""
    return _reduced(time, value, dim, keepdim, Reduce.MAX)


class MaxOverTime(NamedTuple):
    """What `x.max(0)` returns; the step at which the maximum was reached is not known to a step graph."""

    values: Running
    indices: None = None


def maximum(time: Time, value: Value, dim: Any = None, keepdim: bool = False) -> MaxOverTime:
    """`x.max(0)`: values and indices."""
    return MaxOverTime(_reduced(time, value, dim, keepdim, Reduce.MAX))


def _reduced(time: Time, value: Value, dim: Any, keepdim: bool, reduce: Reduce) -> Running:
    dims = tuple(dim) if isinstance(dim, tuple | list) else (dim,)
    if not isinstance(value, Sequence) or dims != (value.dim,) or keepdim:
        raise CaptureError(
            f"a {reduce.value} or mean over dimension {dim} of {list(time.shape(value))} has no form in a step graph; "
            "the reduction of a sequence over time is supported; use x.mean(0) on [T, B, ...], or a pooling layer"
        )
    time.note_length(value.length)
    return Running(value.node, value.length, reduce)


def result_node(time: Time, value: Any, given: Value) -> Node:
    """The node whose value the model returns.

    Args:
        time: the step graph under construction.
        value: what the model returns.
        given: its input; an output of all steps may have time where the input has it.

    Raises:
        CaptureError: more than one output, or one that is not a readout.
    """
    if not isinstance(value, Value):
        raise CaptureError(
            f"forward returns a {type(value).__name__}; a step graph has one output tensor; return the output only, "
            "with torch.stack for a list of steps"
        )
    is_like_input = type(value) is type(given) and getattr(value, "dim", None) == getattr(given, "dim", None)
    if isinstance(value, Sequence | Flat) and (is_like_input or value == Sequence(value.node, value.length)):
        return value.node
    settled = time.settled(value)
    is_last = isinstance(settled, Final) or (isinstance(settled, Step) and settled.t == time.num_steps - 1)
    if not is_last or isinstance(settled, Static | Flat | Sequence):
        raise CaptureError(
            "forward returns a value that is neither the whole sequence [T, B, ...] nor read out over all steps; sum, "
            "mean, max and the last step are supported; return one of these"
        )
    if settled.node.meta.get(REGION) is Region.AFTER:
        return settled.node
    # times one: the value of a step, marked as taken once, after the last
    return time.builder.call(operator.mul, (settled.node, 1.0), Region.AFTER)
