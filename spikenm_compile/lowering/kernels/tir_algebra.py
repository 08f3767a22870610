"""The operations of equations as TIR expressions over some lanes of float32.

Every product and quotient stands behind a fence: TVM lets LLVM contract a·b + c into one rounding.
"""

from __future__ import annotations

from spikenm_compile.lowering import tir
from spikenm_compile.lowering.tir import Expr


class TirAlgebra:
    """Operations on `count` lanes."""

    def __init__(self, count: int) -> None:
        self.count = count

    def constant(self, value: float) -> Expr:
        """The same number in all lanes."""
        return tir.constant("float32", self.count, value)

    def negative(self, a: Expr) -> Expr:
        """Not 0 - a, which has another sign of zero."""
        return a * self.constant(-1.0)

    def add(self, a: Expr, b: Expr) -> Expr:
        """A + b."""
        return a + b

    def subtract(self, a: Expr, b: Expr) -> Expr:
        """A - b."""
        return a - b

    def multiply(self, a: Expr, b: Expr) -> Expr:
        """A · b, rounded."""
        return tir.fence(a * b, self.count)

    def divide(self, a: Expr, b: Expr) -> Expr:
        """A / b, rounded."""
        return tir.fence(a / b, self.count)

    def above(self, a: Expr, b: Expr) -> Expr:
        """A > b."""
        return self._as_float(a > b)

    def at_least(self, a: Expr, b: Expr) -> Expr:
        """A >= b."""
        return self._as_float(a >= b)

    def equal(self, a: Expr, b: Expr) -> Expr:
        """A == b."""
        return self._as_float(tir.equal(a, b))

    def where(self, c: Expr, a: Expr, b: Expr) -> Expr:
        """B where c == 0, else a, also where c is NaN."""
        return tir.select(tir.equal(c, self.constant(0.0)), b, a)

    def maximum(self, a: Expr, b: Expr) -> Expr:
        """A where a > b, else b."""
        return tir.select(a > b, a, b)

    def minimum(self, a: Expr, b: Expr) -> Expr:
        """A where a < b, else b."""
        return tir.select(a < b, a, b)

    def round(self, a: Expr) -> Expr:
        """Ties to even."""
        return tir.round_half_even(a, self.count)

    def trunc(self, a: Expr) -> Expr:
        """Towards zero."""
        return tir.truncate(a, self.count)

    def absolute(self, a: Expr) -> Expr:
        """|a|."""
        return tir.intrinsic("llvm.fabs", a, self.count)

    def _as_float(self, condition: Expr) -> Expr:
        return tir.select(condition, self.constant(1.0), self.constant(0.0))
