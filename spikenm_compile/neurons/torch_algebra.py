"""The operations of equations on tensors: the reference that every other algebra is measured against."""

from __future__ import annotations

import torch
from torch import Tensor


class TorchAlgebra:
    """Operations on tensors of float32 and on python numbers, which PyTorch rounds to float32 as it uses them."""

    def constant(self, value: float) -> Tensor:
        """A python number: nothing need be made of it."""
        return value  # type: ignore[return-value]

    def negative(self, a: Tensor) -> Tensor:
        """-a."""
        return -a

    def add(self, a: Tensor, b: Tensor) -> Tensor:
        """A + b."""
        return a + b

    def subtract(self, a: Tensor, b: Tensor) -> Tensor:
        """A - b."""
        return a - b

    def multiply(self, a: Tensor, b: Tensor) -> Tensor:
        """A · b."""
        return a * b

    def divide(self, a: Tensor, b: Tensor) -> Tensor:
        """A / b."""
        return a / b

    def above(self, a: Tensor, b: Tensor) -> Tensor:
        """A > b."""
        return _as_float(a > b, a, b)

    def at_least(self, a: Tensor, b: Tensor) -> Tensor:
        """A >= b."""
        return _as_float(a >= b, a, b)

    def equal(self, a: Tensor, b: Tensor) -> Tensor:
        """A == b."""
        return _as_float(a == b, a, b)

    def where(self, c: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """A where c != 0, else b."""
        return torch.where(c != 0, a, b).to(c)

    def maximum(self, a: Tensor, b: Tensor) -> Tensor:
        """Not torch.maximum, which keeps a NaN."""
        return torch.where(a > b, a, b)

    def minimum(self, a: Tensor, b: Tensor) -> Tensor:
        """Not torch.minimum, which keeps a NaN."""
        return torch.where(a < b, a, b)

    def round(self, a: Tensor) -> Tensor:
        """Ties to even."""
        return torch.round(a)

    def trunc(self, a: Tensor) -> Tensor:
        """Towards zero."""
        return torch.trunc(a)

    def absolute(self, a: Tensor) -> Tensor:
        """|a|."""
        return torch.abs(a)

    def exp(self, a: Tensor) -> Tensor:
        """e^a."""
        return torch.exp(a)

    def sigmoid(self, a: Tensor) -> Tensor:
        """1 / (1 + e^-a)."""
        return torch.sigmoid(a)

    def log(self, a: Tensor) -> Tensor:
        """Natural logarithm."""
        return torch.log(a)


def _as_float(condition: Tensor, *operands: Tensor | float) -> Tensor:
    """1.0 and 0.0 in the dtype of the operand that is a tensor."""
    return condition.to(next(o for o in operands if isinstance(o, Tensor)))
