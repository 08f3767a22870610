"""Broadcasting in time: operands whose time, samples and other dimensions stand above one another.

[T, B, heads, N, 1] · [T, B, heads, N, D]        each step: [B, heads, N, 1] · [B, heads, N, D]
[T, B, N, C] + constant [1, N, C]                each step: [B, N, C] + Constant [N, C]
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from spikenm_compile.errors import CaptureError
from spikenm_compile.frontend.axes import BATCH, TIME, Axes, axes_of, emit, in_front, renumbered
from spikenm_compile.frontend.time_algebra import Time
from spikenm_compile.frontend.values import Value
from spikenm_compile.ops import Constant


def arithmetic(time: Time, function: Callable[..., Any], left: Any, right: Any) -> Value:
    """`function` of two values, or of one and a constant."""
    operands = (operand_of(left), operand_of(right))
    values = [operand for operand in operands if isinstance(operand, Value)]
    axes = common_axes(time, values, function.__name__)
    args = tuple(fitted(time, operand, axes, values[0]) for operand in operands)
    return emit(time, function, args, axes)


def operand_of(operand: Any) -> Any:
    """A value, a tensor, or a number: a tensor of one number is that number."""
    if isinstance(operand, Tensor) and operand.numel() == 1:
        return float(operand)
    if isinstance(operand, Value | Tensor | int | float):
        return operand
    raise CaptureError(
        f"arithmetic with a {type(operand).__name__} has no form in a step graph; values, tensors and numbers are "
        "supported; use one of these"
    )


def common_axes(time: Time, values: list[Value], what: str) -> Axes:
    """Axes of what the values broadcast to.

    Raises:
        CaptureError: time or samples of one value stand above something else of another.
    """
    all_axes = [axes_of(time, value) for value in values]
    rank = max(map(len, all_axes))
    axes = []
    for position in range(-rank, 0):
        kinds = {min(a[position], 1) for a in all_axes if len(a) >= -position}
        if len(kinds) > 1:
            shapes = " and ".join(str(list(time.shape(value))) for value in values)
            raise CaptureError(
                f"'{what}' broadcasts {shapes} so that time or samples of one meet another dimension of the other; a "
                "step graph computes each sample of each step by itself; reshape one of them"
            )
        axes.append(kinds.pop())
    return renumbered(axes)


def fitted(time: Time, operand: Any, axes: Axes, like: Value) -> Any:
    """The operand as an argument of a call on one step that gives a value with these axes.

    Args:
        time: the step graph under construction.
        operand: value, tensor or number.
        axes: of the result.
        like: one of the operands that are values: a constant is taken as often as it has samples.
    """
    if isinstance(operand, Tensor):
        return _constant(time, operand, axes, like)
    if not isinstance(operand, Value):
        return operand
    missing = max(axes) - max(axes_of(time, operand))
    if not missing:
        return operand
    core = in_front(time, operand)
    sizes = (-1, *(1,) * missing, *time.builder.shape(core.node)[1:])
    return time.function(torch.reshape, [core], (core.node, sizes), "reshape")


def content(constant: Tensor) -> tuple[Any, ...]:
    """What tells two constants apart: the same constant of two steps is read twice."""
    return tuple(constant.shape), constant.dtype, constant.detach().cpu().contiguous().numpy().tobytes()


def _constant(time: Time, constant: Tensor, axes: Axes, like: Value) -> Node:
    shape = list(constant.shape)
    if constant.dim() > len(axes):
        raise CaptureError(
            f"a constant {shape} has more dimensions than the value it meets, {list(time.shape(like))}; a step graph "
            "adds dimensions of one sample only; reshape the constant"
        )
    whole = constant.reshape((1,) * (len(axes) - constant.dim()) + tuple(shape))
    for position, axis in enumerate(axes):
        if axis > BATCH or whole.shape[position] == 1:
            continue
        if whole.stride(position) != 0:
            kind = "time step" if axis == TIME else "sample"
            raise CaptureError(
                f"a constant {shape} has another value for each {kind}; a step graph does the same for each; use a "
                "constant that is the same for all, or make it a part of the input"
            )
        whole = whole.narrow(position, 0, 1)
    one_step = whole.select(axes.index(TIME), 0) if TIME in axes else whole
    batch = tuple(axis for axis in axes if axis != TIME).index(BATCH)
    return _node_of(time, one_step.movedim(batch, 0), like)


def _node_of(time: Time, constant: Tensor, like: Value) -> Node:
    name = time.name_for(Constant, content(constant))
    return time.layer(name, Constant(constant).eval(), in_front(time, like)).node
