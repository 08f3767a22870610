"""Tensor operations that work on each element by itself, and what they are in the language of equations."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from spikenm_compile.frontend.lift_functions import name_of
from spikenm_compile.frontend.proxy import VALUE
from spikenm_compile.frontend.recording import AutogradFunction


@dataclass(frozen=True)
class Term:
    """The text of a value in an equation."""

    text: str
    is_atom: bool = True

    def __str__(self) -> str:
        return self.text if self.is_atom else f"({self.text})"


def number(value: float) -> Term:
    """A number; a negative one in parentheses where it is an operand."""
    return Term(repr(float(value)), is_atom=value >= 0)


def _binary(symbol: str) -> Callable[..., Term]:
    return lambda a, b: Term(f"{a} {symbol} {b}", is_atom=False)


def _scaled(symbol: str) -> Callable[..., Term]:
    """`torch.add` and `torch.sub` multiply their second operand by alpha."""

    def term(a: Term, b: Term, *, alpha: Term | None = None) -> Term:
        return Term(f"{a} {symbol} {b if alpha is None or float(alpha.text) == 1 else f'{alpha} * {b}'}", is_atom=False)

    return term


def _function(name: str) -> Callable[..., Term]:
    return lambda *arguments: Term(f"{name}({', '.join(a.text for a in arguments)})")


def _clamp(a: Term, min: Term | None = None, max: Term | None = None) -> Term:
    low = a if min is None else Term(f"max({a.text}, {min.text})")
    return low if max is None else Term(f"min({low.text}, {max.text})")


def _heaviside(a: Term, values: Term) -> Term:
    return Term(f"where({a} == 0, {values.text}, {a} > 0)")


def _masked_fill(a: Term, mask: Term, value: Term) -> Term:
    return Term(f"where({mask.text}, {value.text}, {a.text})")


def _power(a: Term, exponent: Term) -> Term:
    """Raises TypeError for other powers, as for other arguments that do not fit."""
    if float(exponent.text) != 2:
        raise TypeError(f"power {exponent}")
    return Term(f"{a} * {a}", is_atom=False)


def _same(a: Term, *_: Any, **__: Any) -> Term:
    return a


_NOT = "{0} == 0"
_TERMS: dict[str, Callable[..., Term]] = {
    "add": _scaled("+"),
    "sub": _scaled("-"),
    "subtract": _scaled("-"),
    "rsub": lambda a, b: Term(f"{b} - {a}", is_atom=False),
    "mul": _binary("*"),
    "multiply": _binary("*"),
    "truediv": _binary("/"),
    "div": _binary("/"),
    "true_divide": _binary("/"),
    "neg": lambda a: Term(f"-{a}", is_atom=False),
    "gt": _binary(">"),
    "ge": _binary(">="),
    "lt": _binary("<"),
    "le": _binary("<="),
    "eq": _binary("=="),
    "ne": _binary("!="),
    "where": _function("where"),
    "maximum": _function("max"),
    "minimum": _function("min"),
    "max": _function("max"),
    "min": _function("min"),
    "clamp": _clamp,
    "clip": _clamp,
    "clamp_min": _clamp,
    "clamp_max": lambda a, max: _clamp(a, max=max),
    "relu": lambda a, **_: Term(f"max({a.text}, 0)"),
    "abs": _function("abs"),
    "round": _function("round"),
    "trunc": _function("trunc"),
    "floor": lambda a: Term(f"trunc({a.text}) - (trunc({a.text}) > {a})", is_atom=False),
    "exp": _function("exp"),
    "sigmoid": _function("sigmoid"),
    "log": _function("log"),
    "square": lambda a: Term(f"{a} * {a}", is_atom=False),
    "pow": _power,
    "reciprocal": lambda a: Term(f"1 / {a}", is_atom=False),
    "heaviside": _heaviside,
    "sign": lambda a: Term(f"({a} > 0) - ({a} < 0)", is_atom=False),
    "masked_fill": _masked_fill,
    "logical_not": lambda a: Term(_NOT.format(a), is_atom=False),
    "invert": lambda a: Term(_NOT.format(a), is_atom=False),
    "logical_and": _binary("*"),
    "and_": _binary("*"),
    "bitwise_and": _binary("*"),
    "logical_or": _function("max"),
    "or_": _function("max"),
    "bitwise_or": _function("max"),
    "float": _same,
    "bool": lambda a: Term(f"{a} != 0", is_atom=False),
    "to": _same,
    "type": _same,
    "type_as": _same,
}
"""Operation -> its term; called with terms, it raises TypeError where the arguments do not fit."""
_CASTS = ("float", "bool", "to", "type", "type_as")
_HARD = ("gt", "ge", "lt", "le", "eq", "ne", "heaviside", "sign", "round", "trunc", "floor")
_DTYPES = (torch.float32, torch.bool)


def operation(node: Node) -> str:
    """Name of the operation of a function or method node, the same for both spellings; empty for other nodes."""
    if node.op not in ("call_function", "call_method"):
        return ""
    if node.op == "call_method":
        return str(node.target)
    return name_of(node.target)


def is_elementwise(graph_module: GraphModule, node: Node) -> bool:
    """Whether the node computes each element of its tensor by itself."""
    if not isinstance(node.meta.get(VALUE), Tensor):
        return False
    if is_function(graph_module, node):
        return True
    name = operation(node)
    if name in ("max", "min"):  # torch.max(a, b), not the reduction a.max(0)
        return len(node.args) == 2 and isinstance(node.args[1], Node)
    return name in _TERMS


def is_function(graph_module: GraphModule, node: Node) -> bool:
    """Whether the node calls an autograd function."""
    return node.op == "call_module" and isinstance(graph_module.get_submodule(str(node.target)), AutogradFunction)


def is_cast(node: Node) -> bool:
    """Whether the node changes the type of its values only."""
    return operation(node) in _CASTS


def is_hard(graph_module: GraphModule, node: Node) -> bool:
    """Whether the node may turn a potential into spikes or counts."""
    return is_function(graph_module, node) or operation(node) in _HARD


def is_sum(node: Node) -> bool:
    """Whether the node adds its arguments, or takes the larger."""
    return operation(node) in ("add", "maximum", "max")


def has_known_type(node: Node) -> bool:
    """Whether the values are float32 or truth values, which equations compute with."""
    return node.meta[VALUE].dtype in _DTYPES


def term(node: Node, arguments: list[Any], named: dict[str, Any]) -> Term:
    """The node's value, given terms for its arguments.

    Raises:
        TypeError: the operation is called in a way that has no form.
    """
    name = operation(node)
    if name in ("to", "type", "type_as"):
        name = "bool" if node.meta[VALUE].dtype is torch.bool else "float"
        arguments, named = arguments[:1], {}
    if name in ("add", "sub") and all(_is_bool(a) for a in node.all_input_nodes) and len(node.all_input_nodes) == 2:
        raise TypeError("a sum of two truth values")
    return _TERMS[name](*arguments, **named)


def _is_bool(node: Node) -> bool:
    return isinstance(node.meta.get(VALUE), Tensor) and node.meta[VALUE].dtype is torch.bool


_SELECTS = (operator.getitem,)


def selected_step(node: Node) -> tuple[Node, int, int] | None:
    """(sequence, dimension, index) of `x[t]`, `x[:, t]`, `x.select(0, t)` and of an element of `x.unbind()`."""
    if not node.args or not isinstance(node.args[0], Node):
        return None
    source = node.args[0]
    if operation(node) == "select" and len(node.args) == 3:
        return source, int(node.args[1]), int(node.args[2])  # type: ignore[arg-type]
    if node.op != "call_function" or node.target not in _SELECTS:
        return None
    index: Any = node.args[1]
    if operation(source) == "unbind" and isinstance(index, int):
        dim = source.args[1] if len(source.args) > 1 else source.kwargs.get("dim", 0)
        return source.args[0], int(dim), index  # type: ignore[return-value,arg-type]
    if not isinstance(source.meta.get(VALUE), Tensor):
        return None
    parts = index if isinstance(index, tuple) else (index,)
    whole = [p is Ellipsis or p == slice(None) for p in parts]
    if whole.count(False) != 1 or any(p is Ellipsis for p in parts[: whole.index(False)]):
        return None
    t = parts[whole.index(False)]
    return (source, whole.index(False), t) if isinstance(t, int) else None
