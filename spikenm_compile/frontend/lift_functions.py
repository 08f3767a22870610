"""Functions and tensor methods of a captured graph in time. Both spellings have one rule."""

from __future__ import annotations

import builtins
import math
import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import Node

from spikenm_compile.errors import CaptureError
from spikenm_compile.frontend import readout, reshape
from spikenm_compile.frontend.time_algebra import Time
from spikenm_compile.frontend.values import Reduce, Running, Step, Value

Rule = Callable[..., Any]
_IN_PLACE = {"iadd": "add", "imul": "mul", "isub": "sub", "itruediv": "truediv"}
_SAME = ("contiguous", "clone", "detach", "float", "alias")


def name_of(function: Any) -> str:
    """Name of a function of torch, operator or builtins; of others with the module, so that it meets no rule."""
    if function is F.max_pool2d:
        return "max_pool2d"  # torch hides its name behind a dispatcher
    name: str = getattr(function, "__name__", repr(function))
    known = any(getattr(owner, name, None) is function for owner in (torch, F, operator, builtins))
    return name if known else f"{getattr(function, '__module__', '')}.{name}"


def is_in_place(node: Node) -> bool:
    """Whether a node changes its first argument."""
    if node.op == "call_method":
        return str(node.target).endswith("_") and not str(node.target).endswith("__")
    return node.op == "call_function" and name_of(node.target) in (*_IN_PLACE, "setitem")


def call(time: Time, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What the operation `name` gives in time.

    Raises:
        CaptureError: an operation that a step graph does not have.
    """
    base = _IN_PLACE.get(name, name.removesuffix("_"))
    if base in _SAME:
        return args[0]
    rule = _RULES.get(base)
    if rule is None:
        raise CaptureError(
            f"operation '{base}' has no form in a step graph; arithmetic, reshaping, pooling layers and readout over "
            "time (sum, mean, max, last) are supported; use these or a layer of torch.nn"
        )
    try:
        return rule(time, *args, **kwargs)
    except (TypeError, AttributeError, IndexError) as error:
        raise CaptureError(
            f"operation '{base}' is called with arguments that have no form in a step graph ({error}); arithmetic on "
            "whole steps is supported; use a layer of torch.nn"
        ) from error


def _add(time: Time, left: Any, right: Any, *, alpha: float = 1) -> Any:
    if alpha != 1:
        right = _multiply(time, right, alpha)
    for one, other in ((left, right), (right, left)):
        if _is_zero(one):
            return Running(other.node, 1, Reduce.SUM) if isinstance(other, Step) and other.t == 0 else other
    running = time.running(Reduce.SUM, left, right)
    return running if running is not None else _arithmetic(time, operator.add, left, right)


def _subtract(time: Time, left: Any, right: Any, *, alpha: float = 1) -> Any:
    return _add(time, left, _multiply(time, right, -alpha) if isinstance(right, Value) else -alpha * right)


def _reverse_subtract(time: Time, left: Any, right: Any) -> Any:
    return _subtract(time, right, left)


def _multiply(time: Time, left: Any, right: Any) -> Any:
    if not isinstance(left, Value):
        left, right = right, left
    return _arithmetic(time, operator.mul, left, right)


def _divide(time: Time, left: Any, right: Any) -> Any:
    if isinstance(left, Running) and left.reduce is Reduce.SUM and left.count == time.num_steps == right:
        return time.mean(left)
    return _arithmetic(time, operator.truediv, left, right)


def _maximum(time: Time, left: Any, right: Any) -> Any:
    running = time.running(Reduce.MAX, left, right)
    return running if running is not None else _arithmetic(time, torch.maximum, left, right)


def _arithmetic(time: Time, function: Callable[..., Any], left: Any, right: Any) -> Value:
    settled = [time.settled(a) if isinstance(a, Value) else _number(a) for a in (left, right)]
    values = [a for a in settled if isinstance(a, Value)]
    ranks = {len(time.builder.shape(v.node)) for v in values}
    if len(ranks) > 1:
        raise CaptureError(
            f"'{function.__name__}' broadcasts values of {min(ranks)} and {max(ranks)} dimensions; a step graph adds "
            "and multiplies values of equal rank; reshape one of them"
        )
    args = tuple(a.node if isinstance(a, Value) else a for a in settled)
    return time.function(function, values, args, function.__name__)


def _number(value: Any) -> float:
    """A constant operand; a step graph holds numbers and no tensors."""
    if isinstance(value, Tensor) and value.numel() == 1:
        return float(value)
    if isinstance(value, int | float):
        return value
    raise CaptureError(
        f"arithmetic with a {type(value).__name__} constant has no form in a step graph; numbers are supported; put "
        "the constant into a layer, for example a bias"
    )


def _is_zero(value: Any) -> bool:
    if isinstance(value, Tensor):
        return not bool(value.any())
    return isinstance(value, int | float) and value == 0


def _functional(module_type: type[nn.Module]) -> Rule:
    """Rule of a pooling function: the layer that does the same."""

    def rule(time: Time, value: Value, *args: Any, **kwargs: Any) -> Value:
        name = time.name_for(module_type, args, tuple(sorted(kwargs.items())))
        return time.layer(name, module_type(*args, **kwargs).eval(), time.settled(value))

    return rule


def _dropout(time: Time, value: Value, *args: Any, **kwargs: Any) -> Value:
    return value


def _zeros(time: Time, value: Value, *args: Any, **kwargs: Any) -> float:
    """Zeros of any shape: the start of a sum."""
    return 0.0


def _getattr(time: Time, value: Any, name: str) -> Any:
    if isinstance(value, tuple) and name in getattr(value, "_fields", ()):
        return getattr(value, name)
    if name == "shape":
        return torch.Size(time.shape(value))
    if name == "ndim":
        return len(time.shape(value))
    if name == "dtype":
        return torch.float32
    raise CaptureError(f"attribute '{name}' of a tensor has no form in a step graph; use its shape only")


def _size(time: Time, value: Value, dim: int | None = None) -> Any:
    shape = torch.Size(time.shape(value))
    return shape if dim is None else shape[dim]


def _dim(time: Time, value: Value) -> int:
    return len(time.shape(value))


def _numel(time: Time, value: Value) -> int:
    return math.prod(time.shape(value))


def _length(time: Time, value: Value) -> int:
    return time.shape(value)[0]


_RULES: dict[str, Rule] = {
    "add": _add,
    "sub": _subtract,
    "rsub": _reverse_subtract,
    "mul": _multiply,
    "multiply": _multiply,
    "truediv": _divide,
    "div": _divide,
    "maximum": _maximum,
    "max_pool2d": _functional(nn.MaxPool2d),
    "avg_pool2d": _functional(nn.AvgPool2d),
    "adaptive_avg_pool2d": _functional(nn.AdaptiveAvgPool2d),
    "dropout": _dropout,
    "new_zeros": _zeros,
    "zeros_like": _zeros,
    "getattr": _getattr,
    "size": _size,
    "dim": _dim,
    "numel": _numel,
    "len": _length,
    "getitem": readout.item,
    "setitem": readout.assign,
    "select": readout.select,
    "unbind": readout.unbind,
    "stack": readout.stack,
    "cat": readout.concatenate,
    "sum": readout.total,
    "mean": readout.mean,
    "max": readout.maximum,
    "amax": readout.largest,
    **{name: reshape.rule(name) for name in ("flatten", "view", "reshape", "unflatten", "squeeze")},
    "unsqueeze": reshape.unsqueeze,
    "transpose": reshape.transpose,
    "permute": reshape.permute,
    "repeat": reshape.repeat,
    "expand": reshape.expand,
}
