"""The operations of equations as tirx expressions of float32 on one thread.

CUDA rounds each operation as IEEE 754 says when compiled with -fmad=false and without fast-math: no fences.
"""

from __future__ import annotations

from spikenm_compile.lowering.cuda.device import Expr, T
from spikenm_compile.lowering.kernels.tir_algebra import TirAlgebra


class CudaAlgebra(TirAlgebra):
    """Operations on one number; those that LLVM does in its own way stand here."""

    def __init__(self) -> None:
        super().__init__(count=1)

    def multiply(self, a: Expr, b: Expr) -> Expr:
        """A · b."""
        return a * b

    def divide(self, a: Expr, b: Expr) -> Expr:
        """A / b."""
        return a / b

    def round(self, a: Expr) -> Expr:
        """Ties to even."""
        return T.nearbyint(a)

    def trunc(self, a: Expr) -> Expr:
        """Towards zero."""
        return T.trunc(a)

    def absolute(self, a: Expr) -> Expr:
        """|a|."""
        return T.fabs(a)
