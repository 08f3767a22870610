"""The closed language that neurons are written in: equations `name = expression`, computed in float32 as written.

    a + b   a - b   a * b   a / b   -a          each rounded once, never contracted or reordered
    a > b   a >= b   a < b   a <= b   a == b   a != b     1.0 or 0.0
    where(c, a, b)    a if c != 0 else b
    max(a, b)         a if a > b else b         so that max(NaN, b) = b
    min(a, b)         a if a < b else b
    round(a)          nearest whole number, ties to even;      trunc(a) towards zero;      abs(a)
    exp(a)  sigmoid(a)  log(a)                  not exact: another machine may give another last bit

What is computed from numbers alone is computed once, in float32 too. The same expression is evaluated on tensors, on
kernel code and on ONNX nodes: an `Algebra` says what each operation means there.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, NoReturn, Protocol, TypeAlias, TypeVar

import numpy as np

from spikenm_compile.errors import InputError

V = TypeVar("V")

LANGUAGE = (
    "an equation is `name = expression` with names, numbers, + - * /, comparisons of two values, where(c, a, b), "
    "max(a, b), min(a, b), round, trunc, abs, exp, sigmoid and log"
)
MAX_LENGTH = 240
"""Longest text of an equation: stored equations come from files, and the parser calls itself for each parenthesis."""
LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True)
class Number:
    """A number in the text."""

    value: float


@dataclass(frozen=True, slots=True)
class Name:
    """The input, a state, a constant or the result of an equation."""

    name: str


@dataclass(frozen=True, slots=True)
class Apply:
    """An operation, by the name of its method in `Algebra`."""

    operation: str
    arguments: tuple[Expression, ...]


Expression: TypeAlias = Number | Name | Apply


@dataclass(frozen=True, slots=True)
class Equation:
    """`name = expression`."""

    name: str
    expression: Expression
    text: str


class Algebra(Protocol[V]):
    """What the exact operations mean for values V; the inexact ones are further methods: exp, sigmoid, log."""

    def constant(self, value: float) -> V:
        """A number that is the same everywhere."""

    def negative(self, a: V) -> V:
        """-a."""

    def add(self, a: V, b: V) -> V:
        """A + b."""

    def subtract(self, a: V, b: V) -> V:
        """A - b."""

    def multiply(self, a: V, b: V) -> V:
        """A · b."""

    def divide(self, a: V, b: V) -> V:
        """A / b."""

    def above(self, a: V, b: V) -> V:
        """1.0 where a > b, else 0.0."""

    def at_least(self, a: V, b: V) -> V:
        """1.0 where a >= b, else 0.0."""

    def equal(self, a: V, b: V) -> V:
        """1.0 where a == b, else 0.0."""

    def where(self, c: V, a: V, b: V) -> V:
        """A where c != 0, else b."""

    def maximum(self, a: V, b: V) -> V:
        """A where a > b, else b."""

    def minimum(self, a: V, b: V) -> V:
        """A where a < b, else b."""

    def round(self, a: V) -> V:
        """Nearest whole number, ties to even."""

    def trunc(self, a: V) -> V:
        """Towards zero."""

    def absolute(self, a: V) -> V:
        """|a|."""


_FUNCTIONS: dict[str, tuple[str, int]] = {
    "where": ("where", 3),
    "max": ("maximum", 2),
    "min": ("minimum", 2),
    "round": ("round", 1),
    "trunc": ("trunc", 1),
    "abs": ("absolute", 1),
    "exp": ("exp", 1),
    "sigmoid": ("sigmoid", 1),
    "log": ("log", 1),
}
"""Function in the text -> operation and number of arguments."""
FUNCTIONS = frozenset(_FUNCTIONS)
"""Names that an equation cannot give to a value."""
INEXACT = frozenset({"exp", "sigmoid", "log"})

_BINARY: dict[type[ast.operator], str] = {
    ast.Add: "add",
    ast.Sub: "subtract",
    ast.Mult: "multiply",
    ast.Div: "divide",
}

_COMPARISONS: dict[type[ast.cmpop], Callable[[Expression, Expression], Apply]] = {
    ast.Gt: lambda a, b: Apply("above", (a, b)),
    ast.GtE: lambda a, b: Apply("at_least", (a, b)),
    ast.Lt: lambda a, b: Apply("above", (b, a)),
    ast.LtE: lambda a, b: Apply("at_least", (b, a)),
    ast.Eq: lambda a, b: Apply("equal", (a, b)),
    ast.NotEq: lambda a, b: Apply("subtract", (Number(1.0), Apply("equal", (a, b)))),
}
"""Comparison in the text -> the same in fewer operations; NaN compares alike on both sides."""


@lru_cache(maxsize=4096)
def parse(text: str) -> Equation:
    """Read one equation.

    Raises:
        InputError: anything outside of the language; the message names the column.
    """
    if len(text) > MAX_LENGTH or not text.isascii():
        raise InputError(
            f"equation {text[:40]!r}... has {len(text)} characters, or some beyond ASCII; at most {MAX_LENGTH} ASCII "
            f"characters are supported; split it into several equations"
        )
    try:
        statements = ast.parse(text.strip()).body
    except (SyntaxError, ValueError) as error:
        column = getattr(error, "offset", None) or 1
        raise InputError(f"equation {text!r} cannot be read at column {column}; {LANGUAGE}; rewrite it") from error
    statement = statements[0] if len(statements) == 1 else None
    if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
        raise InputError(f"{text!r} is not one equation at column 1; {LANGUAGE}; write for example 'h = v + x'")
    target = statement.targets[0]
    if not isinstance(target, ast.Name) or target.id in FUNCTIONS:
        _refuse(text, target, "is no name for a value")
    return Equation(target.id, _read(text.strip(), statement.value), text.strip())


def _read(text: str, node: ast.expr) -> Expression:
    if isinstance(node, ast.Name):
        return (
            Name(node.id) if node.id not in FUNCTIONS else _refuse(text, node, "is a function and needs its arguments")
        )
    if isinstance(node, ast.Constant) and type(node.value) in (int, float) and abs(node.value) <= LARGEST:  # type: ignore[arg-type]
        return Number(float(node.value))  # type: ignore[arg-type]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return Apply("negative", (_read(text, node.operand),))
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        return Apply(_BINARY[type(node.op)], (_read(text, node.left), _read(text, node.right)))
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _COMPARISONS:
        return _COMPARISONS[type(node.ops[0])](_read(text, node.left), _read(text, node.comparators[0]))
    if isinstance(node, ast.Call):
        return _read_call(text, node)
    return _refuse(text, node, "is not supported")


def _read_call(text: str, node: ast.Call) -> Apply:
    operation, arity = _FUNCTIONS.get(getattr(node.func, "id", ""), ("", 0))
    if not operation or node.keywords:
        _refuse(text, node, "is not supported")
    if len(node.args) != arity:
        _refuse(text, node, f"does not have the {arity} argument{'s' if arity > 1 else ''} that it takes")
    return Apply(operation, tuple(_read(text, argument) for argument in node.args))


def _refuse(text: str, node: ast.expr, what: str) -> NoReturn:
    found = ast.get_source_segment(text, node)
    raise InputError(
        f"equation {text!r}, column {node.col_offset + 1}: `{found}` {what}; {LANGUAGE}; rewrite it with these"
    )


def names_in(expression: Expression) -> Iterator[str]:
    """Every name that an expression reads, in order."""
    if isinstance(expression, Name):
        yield expression.name
    elif isinstance(expression, Apply):
        for argument in expression.arguments:
            yield from names_in(argument)


def operations_in(expression: Expression) -> Iterator[str]:
    """Every operation of an expression."""
    if isinstance(expression, Apply):
        yield expression.operation
        for argument in expression.arguments:
            yield from operations_in(argument)


class Evaluator(Generic[V]):
    """Computes expressions on values V.

    Args:
        algebra: the meaning of operations on V. It never sees an operation on floats alone, which is done at once.
    """

    def __init__(self, algebra: Algebra[V]) -> None:
        self.algebra = algebra

    def __call__(self, expression: Expression, environment: Mapping[str, V | float]) -> V | float:
        """The value of an expression, given that of every name; a python float is the same everywhere."""
        if isinstance(expression, Number):
            return expression.value
        if isinstance(expression, Name):
            return environment[expression.name]
        arguments = [self(argument, environment) for argument in expression.arguments]
        if expression.operation == "where" and isinstance(arguments[0], float):
            return arguments[1] if arguments[0] != 0.0 else arguments[2]
        numbers = [a for a in arguments if isinstance(a, float)]
        if len(numbers) == len(arguments):
            return _on_numbers(expression.operation, numbers)
        operation: Callable[..., V] = getattr(self.algebra, expression.operation)
        return operation(*(self.algebra.constant(a) if isinstance(a, float) else a for a in arguments))


_NUMPY: dict[str, Callable[..., Any]] = {
    "negative": np.negative,
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.divide,
    "above": np.greater,
    "at_least": np.greater_equal,
    "equal": np.equal,
    "maximum": lambda a, b: a if a > b else b,
    "minimum": lambda a, b: a if a < b else b,
    "round": np.rint,
    "trunc": np.trunc,
    "absolute": np.abs,
    "exp": np.exp,
    "sigmoid": lambda a: 1 / (1 + np.exp(-a)),
    "log": np.log,
}
"""Operations on float32 numbers."""


def _on_numbers(operation: str, numbers: Sequence[float]) -> float:
    with np.errstate(all="ignore"):
        return float(np.float32(_NUMPY[operation](*(np.float32(n) for n in numbers))))
