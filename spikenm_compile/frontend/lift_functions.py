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
from spikenm_compile.frontend.broadcasting import arithmetic
from spikenm_compile.frontend.layer_rules import ACTIVATIONS, HIDDEN_NAMES, POOLS, check_layout, without_side_effects
from spikenm_compile.frontend.sample_dims import transpose
from spikenm_compile.frontend.sample_ops import SAMPLE_RULES
from spikenm_compile.frontend.time_algebra import Time
from spikenm_compile.frontend.values import Reduce, Running, Step, Value

Rule = Callable[..., Any]
_IN_PLACE = {"iadd": "add", "imul": "mul", "isub": "sub", "itruediv": "truediv"}
_SAME = ("contiguous", "clone", "detach", "float", "alias")


def name_of(function: Any) -> str:
    """Name of a function of torch, operator or builtins; of others with the module, so that it meets no rule."""
    if function in HIDDEN_NAMES:
        return HIDDEN_NAMES[function]
    name: str = getattr(function, "__name__", repr(function))
    known = any(getattr(owner, name, None) is function for owner in (torch, F, operator, builtins))
    return name if known else f"{getattr(function, '__module__', '')}.{name}"


def base_name(name: str) -> str:
    """Name of what an operation computes, in place or not."""
    return _IN_PLACE.get(name, name.removesuffix("_"))


def is_in_place(node: Node) -> bool:
    """Whether a node changes its first argument."""
    if node.op == "call_method":
        return str(node.target).endswith("_") and not str(node.target).endswith("__")
    if node.op != "call_function":
        return False
    name = name_of(node.target)
    asked = name in ACTIVATIONS and (node.kwargs.get("inplace") is True or node.args[-1:] == (True,))
    return asked or name in (*_IN_PLACE, "setitem") or (name.endswith("_") and not name.endswith("__"))


def call(time: Time, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What the operation `name` gives in time.

    Raises:
        CaptureError: an operation that a step graph does not have.
    """
    base = base_name(name)
    if base in _SAME:
        return args[0]
    rule = _RULES.get(base)
    if rule is None:
        raise CaptureError(
            f"operation '{base}' has no form in a step graph; arithmetic, operations on dimensions of each sample, "
            "pooling layers and readout over time (sum, mean, max, last) are supported; use these, or a layer"
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
    return running if running is not None else arithmetic(time, operator.add, left, right)


def _subtract(time: Time, left: Any, right: Any, *, alpha: float = 1) -> Any:
    if alpha == 1 and not _is_zero(right):
        return arithmetic(time, operator.sub, left, right)
    return _add(time, left, _multiply(time, right, -alpha) if isinstance(right, Value) else -alpha * right)


def _reverse_subtract(time: Time, left: Any, right: Any) -> Any:
    return _subtract(time, right, left)


def _multiply(time: Time, left: Any, right: Any) -> Any:
    if not isinstance(left, Value):
        left, right = right, left
    return arithmetic(time, operator.mul, left, right)


def _negative(time: Time, value: Any) -> Any:
    return _multiply(time, value, -1.0)


def _divide(time: Time, left: Any, right: Any) -> Any:
    if isinstance(left, Running) and left.reduce is Reduce.SUM and left.count == time.num_steps == right:
        return time.mean(left)
    return arithmetic(time, operator.truediv, left, right)


def _maximum(time: Time, left: Any, right: Any) -> Any:
    running = time.running(Reduce.MAX, left, right)
    return running if running is not None else arithmetic(time, torch.maximum, left, right)


def _is_zero(value: Any) -> bool:
    if isinstance(value, Tensor):
        return not bool(value.any())
    return isinstance(value, int | float) and value == 0


def _functional(module_type: type[nn.Module]) -> Rule:
    """Rule of a function: the layer that does the same."""

    def rule(time: Time, value: Value, *args: Any, **kwargs: Any) -> Value:
        name = time.name_for(module_type, args, tuple(sorted(kwargs.items())))
        layer, settled = without_side_effects(module_type(*args, **kwargs).eval()), time.settled(value)
        check_layout(name, layer, settled, time.builder.shape(settled.node), multi_step=False)
        return time.layer(name, layer, settled)

    return rule


_upsample = _functional(nn.Upsample)


def _interpolate(time: Time, value: Value, *args: Any, antialias: bool = False, **kwargs: Any) -> Value:
    if antialias:
        raise CaptureError(
            "interpolate is called with antialias=True, which no layer of torch.nn has; a step graph takes what "
            "nn.Upsample does; leave antialias out"
        )
    return _upsample(time, value, *args, **kwargs)  # type: ignore[no-any-return]


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
    if name == "mT":
        return transpose(time, value, -2, -1)
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
    "neg": _negative,
    **{name: _functional(kind) for name, kind in (POOLS | ACTIVATIONS).items()},
    "interpolate": _interpolate,
    **dict.fromkeys(("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout"), _dropout),
    "new_zeros": _zeros,
    "zeros_like": _zeros,
    "getattr": _getattr,
    "size": _size,
    "dim": _dim,
    "numel": _numel,
    "len": _length,
    "setitem": readout.assign,
    "repeat": reshape.repeat,
    "expand": reshape.expand,
    **SAMPLE_RULES,
}
