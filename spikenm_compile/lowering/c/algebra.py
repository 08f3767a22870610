"""The operations of equations as C expressions of type float."""

from __future__ import annotations

import math

import numpy as np


class CAlgebra:
    """Operations on C expressions; `used` collects the sources whose functions they call."""

    def __init__(self) -> None:
        self.used: set[str] = set()

    def constant(self, value: float) -> str:
        """A number."""
        if not math.isfinite(value):
            self.used.add("float_of")
        return number(value)

    def negative(self, a: str) -> str:
        """-a."""
        return f"(-{a})"

    def add(self, a: str, b: str) -> str:
        """A + b."""
        return f"({a} + {b})"

    def subtract(self, a: str, b: str) -> str:
        """A - b."""
        return f"({a} - {b})"

    def multiply(self, a: str, b: str) -> str:
        """A · b."""
        return f"({a} * {b})"

    def divide(self, a: str, b: str) -> str:
        """A / b."""
        return f"({a} / {b})"

    def above(self, a: str, b: str) -> str:
        """A > b."""
        return f"({a} > {b} ? 1.0f : 0.0f)"

    def at_least(self, a: str, b: str) -> str:
        """A >= b."""
        return f"({a} >= {b} ? 1.0f : 0.0f)"

    def equal(self, a: str, b: str) -> str:
        """A == b."""
        return f"({a} == {b} ? 1.0f : 0.0f)"

    def where(self, c: str, a: str, b: str) -> str:
        """A where c != 0, else b; NaN is not 0."""
        return f"({c} != 0.0f ? {a} : {b})"

    def maximum(self, a: str, b: str) -> str:
        """A where a > b, else b."""
        return self._call("larger", a, b)

    def minimum(self, a: str, b: str) -> str:
        """A where a < b, else b."""
        return self._call("smaller", a, b)

    def round(self, a: str) -> str:
        """Ties to even."""
        return self._call("round_half_even", a)

    def trunc(self, a: str) -> str:
        """Towards zero."""
        return self._call("truncate", a)

    def absolute(self, a: str) -> str:
        """|a|."""
        return self._call("absolute", a)

    def _call(self, function: str, *arguments: str) -> str:
        self.used.add(function)
        return f"{function}({', '.join(arguments)})"


def number(value: float) -> str:
    """A float32 constant; nine digits give back every bit."""
    rounded = np.float32(value)
    if not math.isfinite(rounded):
        return f"float_of({int(rounded.view(np.uint32)):#x}u)"
    text = f"{rounded:.9g}"
    return f"{text if '.' in text or 'e' in text else text + '.0'}f"
