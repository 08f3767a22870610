"""The operations of equations as tirx expressions of float32 on one thread.

CUDA rounds each operation as IEEE 754 says when compiled with -fmad=false and without fast-math.
"""

from __future__ import annotations

from tvm import tirx

from spikenm_compile.lowering.cuda.device import Expr, T


class CudaAlgebra:
    """Operations on one number."""

    def constant(self, value: float) -> Expr:
        """A number."""
        return tirx.const(value, "float32")

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
        """A · b."""
        return a * b

    def divide(self, a: Expr, b: Expr) -> Expr:
        """A / b."""
        return a / b

    def above(self, a: Expr, b: Expr) -> Expr:
        """A > b."""
        return self._as_float(a > b)

    def at_least(self, a: Expr, b: Expr) -> Expr:
        """A >= b."""
        return self._as_float(a >= b)

    def equal(self, a: Expr, b: Expr) -> Expr:
        """A == b."""
        return self._as_float(tirx.EQ(a, b))

    def where(self, c: Expr, a: Expr, b: Expr) -> Expr:
        """B where c == 0, else a, also where c is NaN."""
        return tirx.Select(tirx.EQ(c, self.constant(0.0)), b, a)

    def maximum(self, a: Expr, b: Expr) -> Expr:
        """A where a > b, else b."""
        return tirx.Select(a > b, a, b)

    def minimum(self, a: Expr, b: Expr) -> Expr:
        """A where a < b, else b."""
        return tirx.Select(a < b, a, b)

    def round(self, a: Expr) -> Expr:
        """Ties to even."""
        return T.nearbyint(a)

    def trunc(self, a: Expr) -> Expr:
        """Towards zero."""
        return T.trunc(a)

    def absolute(self, a: Expr) -> Expr:
        """|a|."""
        return T.fabs(a)

    def _as_float(self, condition: Expr) -> Expr:
        return tirx.Select(condition, self.constant(1.0), self.constant(0.0))
