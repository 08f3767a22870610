"""Equations with a gradient: the spikes of a comparison get the arctangent surrogate, choices and counts pass it on."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from spikenm_compile.neurons.torch_algebra import TorchAlgebra


class ATan(torch.autograd.Function):
    """Heaviside forward; backward α / 2 / (1 + (π/2·α·x)²), the arctangent surrogate of Fang et al., ICCV 2021."""

    @staticmethod
    def forward(ctx: Any, distance: Tensor, alpha: float, strict: bool) -> Tensor:
        """Spikes from the distance to the threshold."""
        ctx.save_for_backward(distance)
        ctx.alpha = alpha
        return (distance > 0 if strict else distance >= 0).to(distance)

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor, None, None]:
        """Gradient of the surrogate."""
        (distance,) = ctx.saved_tensors
        alpha: float = ctx.alpha
        return grad[0] * (alpha / 2 / (1 + (math.pi / 2 * alpha * distance) ** 2)), None, None


class _Gate(torch.autograd.Function):
    """1.0 where c != 0, else 0.0; the gradient passes through."""

    @staticmethod
    def forward(_ctx: Any, c: Tensor) -> Tensor:
        return (c != 0).to(c)

    @staticmethod
    def backward(_ctx: Any, *grad: Tensor) -> Tensor:
        return grad[0]


class _Whole(torch.autograd.Function):
    """A function that gives whole numbers; the gradient passes straight through, as if nothing were rounded."""

    @staticmethod
    def forward(_ctx: Any, a: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        return function(a)

    @staticmethod
    def backward(_ctx: Any, *grad: Tensor) -> tuple[Tensor, None]:
        return grad[0], None


class SurrogateAlgebra(TorchAlgebra):
    """As in inference, but for the gradient.

    Args:
        alpha: width of the arctangent.
    """

    def __init__(self, alpha: float) -> None:
        self.alpha = alpha

    def above(self, a: Tensor, b: Tensor) -> Tensor:
        """A > b."""
        return cast("Tensor", ATan.apply(a - b, self.alpha, True))  # type: ignore[no-untyped-call]

    def at_least(self, a: Tensor, b: Tensor) -> Tensor:
        """A >= b."""
        return cast("Tensor", ATan.apply(a - b, self.alpha, False))  # type: ignore[no-untyped-call]

    def where(self, c: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """A blend where c needs a gradient too, as spikes do whose reset is not detached."""
        if not c.requires_grad:
            return super().where(c, a, b)
        gate = cast("Tensor", _Gate.apply(c))  # type: ignore[no-untyped-call]
        return gate * a + (1.0 - gate) * b

    def maximum(self, a: Tensor, b: Tensor) -> Tensor:
        """Where both are equal the gradient goes to what can learn, so that a count at its lower bound can rise."""
        return torch.where(a >= b, a, b) if _learns(a) else super().maximum(a, b)

    def minimum(self, a: Tensor, b: Tensor) -> Tensor:
        """Where both are equal the gradient goes to what can learn, so that a count at its upper bound can fall."""
        return torch.where(a <= b, a, b) if _learns(a) else super().minimum(a, b)

    def round(self, a: Tensor) -> Tensor:
        """Ties to even."""
        return cast("Tensor", _Whole.apply(a, torch.round))  # type: ignore[no-untyped-call]

    def trunc(self, a: Tensor) -> Tensor:
        """Towards zero."""
        return cast("Tensor", _Whole.apply(a, torch.trunc))  # type: ignore[no-untyped-call]


def _learns(a: Tensor | float) -> bool:
    return isinstance(a, Tensor) and a.requires_grad
