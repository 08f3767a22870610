"""Matrix products in time: `q @ k.transpose(-2, -1)`, `torch.einsum`, of values and of constant matrices."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from spikenm_compile.errors import CaptureError
from spikenm_compile.frontend.axes import BATCH, TIME, axes_of, emit, in_front, placed, renumbered, sample_axis
from spikenm_compile.frontend.broadcasting import common_axes, content, fitted
from spikenm_compile.frontend.time_algebra import Time
from spikenm_compile.frontend.values import Value


def matmul(time: Time, left: Any, right: Any) -> Value:
    """Product of matrices in the last two dimensions of each sample; dimensions before them broadcast."""
    if isinstance(right, Tensor) and right.dim() == 2:
        return _linear(time, left, right)
    values = [v for v in (left, right) if isinstance(v, Value)]
    for value in values:
        for dim in (-1, -2):
            sample_axis(time, value, dim, "matmul")
    axes = common_axes(time, values, "matmul")
    args = tuple(fitted(time, operand, axes, values[0]) for operand in (left, right))
    return emit(time, torch.matmul, args, axes)


def _linear(time: Time, value: Value, matrix: Tensor) -> Value:
    """`x @ w` with a constant matrix is the linear layer of its transpose."""
    sample_axis(time, value, -1, "matmul")
    linear = nn.Linear(matrix.shape[0], matrix.shape[1], bias=False, device="meta").eval()
    linear.weight = nn.Parameter(matrix.t(), requires_grad=False)
    layer = time.layer(time.name_for(nn.Linear, content(matrix)), linear, in_front(time, value))
    return placed(layer, axes_of(time, value))


def einsum(time: Time, equation: str, *operands: Any) -> Value:
    """`torch.einsum` whose time and samples stay apart: their letters are in each operand and in the result."""
    values: tuple[Any, ...] = tuple(operands[0]) if isinstance(operands[0], tuple | list) else operands
    inputs, arrow, result = equation.replace(" ", "").partition("->")
    letters = inputs.split(",")
    if not arrow or "." in equation or not all(isinstance(v, Value) for v in values):
        raise CaptureError(
            f"einsum '{equation}' has no form in a step graph; values of one step and a result that is written out "
            "('...->bhnm'), without an ellipsis, are supported; write it with matmul and permute"
        )
    meaning = _meaning(time, equation, letters, values)
    axes = [meaning.get(letter, 1) for letter in result]
    if BATCH not in axes or (TIME in meaning.values() and TIME not in axes):
        raise CaptureError(
            f"einsum '{equation}' sums over samples or time; a step graph computes each sample of each step by itself; "
            "keep their letters in the result"
        )
    time_letters = {letter for letter, axis in meaning.items() if axis == TIME}
    batch_letter = next(letter for letter, axis in meaning.items() if axis == BATCH)
    terms = [_with_batch_first(term, batch_letter, time_letters) for term in (*letters, result)]
    step_equation = f"{','.join(terms[:-1])}->{terms[-1]}"
    return emit(time, torch.einsum, (step_equation, *values), renumbered(axes))


def _meaning(time: Time, equation: str, letters: list[str], values: tuple[Value, ...]) -> dict[str, int]:
    """Letter -> TIME, BATCH, or 1 for a dimension of one sample."""
    found: dict[str, int] = {}
    for term, value in zip(letters, values, strict=True):
        for letter, axis in zip(term, axes_of(time, value), strict=True):
            if found.setdefault(letter, min(axis, 1)) != min(axis, 1):
                raise CaptureError(
                    f"einsum '{equation}' uses '{letter}' for time or samples in one operand and for something else in "
                    "another; a step graph computes each sample of each step by itself; give them letters of their own"
                )
    if sum(axis == BATCH for axis in found.values()) > 1:
        raise CaptureError(
            f"einsum '{equation}' combines each sample with all others; a step graph computes each sample by itself; "
            "use one letter for the samples"
        )
    return found


def _with_batch_first(term: str, batch: str, time_letters: set[str]) -> str:
    return batch + "".join(letter for letter in term if letter != batch and letter not in time_letters)
