"""Weights as whole numbers: the one arithmetic that training rounds with and lowering stores.

    q = round(w / s),    |q| <= 127, 63 or 7,    s > 0 of the output channel                     w ≈ q · s

int8: s = max|w| / 127. With 7 or 4 bits a few large weights cost all others their precision, so that of the scales that
clip weights beyond max|w| · 0.5, 0.55, ... 1 the one with the least squared error is taken. A zero weight stays zero,
so that an N:M pattern survives.

Weights that are on a grid, w = q · s with max|q| the largest of the type, give these q again, also after a batch norm
has multiplied the channel by some k (then s' = |k| · s and q' = ±q): nothing is clipped, since any clipping scale has
an error and this one has none, and w / s is within rounding of q. So what was rounded in training is what is deployed.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from spikenm_compile.errors import InputError

WeightType = Literal["int8", "int7", "int4"]
WEIGHT_TYPES: dict[WeightType, int] = {"int8": 127, "int7": 63, "int4": 7}
"""Name -> largest magnitude; no type uses its most negative number, so that negation never overflows."""
AUTO = "auto"
LARGEST_ERROR = 0.02
"""Of |q · s - w| over |w|, both L2 norms of a layer, for `auto`."""
ON_GRID = 1e-6
"""The same where weights are on the grid of a type, but for rounding to float32."""
CLIPPED = tuple(percent / 100 for percent in range(100, 45, -5))
"""Shares of max|w| that int7 and int4 may clip weights beyond."""


def check_weight_type(name: str) -> None:
    """Check that there is such a type, or that it is `auto`.

    Raises:
        InputError: there is none.
    """
    known = (*WEIGHT_TYPES, AUTO)
    if name not in known:
        raise InputError(f"weights of type '{name}' are unknown; known are {', '.join(known)}; choose one")


def type_of_largest(magnitude: int) -> WeightType:
    """The type whose largest magnitude this is.

    Raises:
        InputError: there is none.
    """
    for kind, most in WEIGHT_TYPES.items():
        if most == magnitude:
            return kind
    known = ", ".join(f"{most} of {kind}" for kind, most in WEIGHT_TYPES.items())
    raise InputError(
        f"weights were trained as whole numbers up to {magnitude}; known are {known}; use the version that trained them"
    )


def quantize_weight(weight: Tensor, weight_type: str = "int8", scale: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Float [O, ...] to (int8 [O, ...], float64 scale [O]); a channel of zeros gets scale 1.

    Args:
        weight: [O, ...].
        weight_type: of the whole numbers, or `auto`.
        scale: [O], where it is known already.
    """
    chosen = smallest_type(weight) if weight_type == AUTO else _known(weight_type)
    scale = weight_scale(weight, chosen) if scale is None else scale
    return _rounded(weight.detach().double(), scale, WEIGHT_TYPES[chosen]).to(torch.int8), scale


def round_weight(weight: Tensor, weight_type: WeightType, scale: Tensor | None = None) -> Tensor:
    """Return q · s, in dtype and memory layout of `weight`; NaN where a channel is not finite.

    Args:
        weight: [O, ...].
        weight_type: of q.
        scale: what `weight_scale` gives for this weight, where it is known already.
    """
    exact = weight.detach().double()
    scale = weight_scale(exact, weight_type) if scale is None else scale
    rounded = _rounded(exact, scale, WEIGHT_TYPES[weight_type])
    return rounded.mul_(_per_channel(scale, weight)).to(weight.dtype)


def weight_scale(weight: Tensor, weight_type: WeightType) -> Tensor:
    """Float64 s [O] of weights [O, ...].

    One candidate after the other: all at once would take eleven times the memory.
    """
    exact, most = weight.detach().double(), WEIGHT_TYPES[weight_type]
    inside = tuple(range(1, weight.ndim))
    largest = exact.abs().amax(inside)
    best = _usable(largest / most)
    if weight_type == "int8":
        return best
    least = torch.full_like(best, torch.inf)
    for share in CLIPPED:
        scale = _usable(share * largest / most)
        error = (_rounded(exact, scale, most) * _per_channel(scale, exact)).sub_(exact).square_().sum(inside)
        best, least = torch.where(error < least, scale, best), torch.minimum(error, least)
    return best


def smallest_type(weight: Tensor) -> WeightType:
    """The type on whose grid the weights [O, ...] are; else the smallest that is within LARGEST_ERROR of them."""
    errors = {kind: relative_error(weight, kind) for kind in WEIGHT_TYPES}
    smallest_first = tuple(reversed(WEIGHT_TYPES))
    for limit in (ON_GRID, LARGEST_ERROR):
        for kind in smallest_first:
            if errors[kind] <= limit:
                return kind
    return "int8"


def relative_error(weight: Tensor, weight_type: WeightType) -> float:
    """|q · s - w| over |w|, both L2 norms; 0 where all weights are 0."""
    exact = weight.detach().double()
    return float((round_weight(exact, weight_type) - exact).norm() / exact.norm().clamp_min(torch.finfo().tiny))


def _known(name: str) -> WeightType:
    check_weight_type(name)
    return next(kind for kind in WEIGHT_TYPES if kind == name)


def _usable(scale: Tensor) -> Tensor:
    return torch.where(scale > 0, scale, 1.0)


def _rounded(exact: Tensor, scale: Tensor, most: int) -> Tensor:
    return (exact / _per_channel(scale, exact)).round_().clamp_(-most, most)


def _per_channel(scale: Tensor, weight: Tensor) -> Tensor:
    return scale.view(-1, *[1] * (weight.ndim - 1))
