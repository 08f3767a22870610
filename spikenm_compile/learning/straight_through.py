"""A weight that is replaced in the forward pass, and trained as if it were not."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor


class _StraightThrough(torch.autograd.Function):
    """The deployed weight w̃, with dense straight-through gradients to the weight and to what carries the mask's."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, deployed: Tensor, carrier: Tensor | None) -> Tensor:
        ctx.has_carrier = carrier is not None
        if ctx.has_carrier:
            ctx.save_for_backward(weight)
        return deployed.view_as(deployed)

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor, None, Tensor | None]:
        if not ctx.has_carrier:
            return grad[0], None, None
        (weight,) = ctx.saved_tensors
        return grad[0], None, weight * grad[0]


def straight_through(weight: Tensor, deployed: Tensor, carrier: Tensor | None = None) -> Tensor:
    """Return `deployed` (no gradient of its own); with G = ∂L/∂deployed, `weight` gets G, and `carrier` w · G."""
    result = _StraightThrough.apply(weight, deployed, carrier)  # type: ignore[no-untyped-call]
    return cast("Tensor", result)
