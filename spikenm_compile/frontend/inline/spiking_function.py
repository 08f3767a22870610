"""The comparison that an autograd function with a surrogate gradient computes, found by trying it out.

A spiking function is 0 below a threshold and 1 from there on. Where the step is, is found to the last bit by bisection
over the float32 numbers; that it is the only one, on some thousand numbers of all magnitudes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from spikenm_compile.errors import CaptureError

Function = Callable[[Tensor], Tensor]
_TINY = np.array([1e-45, 1e-40, 1e-38, 1e-30, 1e-20, 1e-12, 1e-7], np.float32)
_GRID = np.concatenate(
    [_TINY, np.linspace(1e-3, 8, 4000, dtype=np.float32), np.array([20.0, 1e3, 1e6, 1e30], np.float32)]
)
PROBE = torch.from_numpy(np.unique(np.concatenate([-_GRID, np.zeros(1, np.float32), _GRID])))
"""Numbers in ascending order, around 0 above all."""


def comparison(name: str, function: Function) -> tuple[str, float]:
    """Symbol and threshold of `u > 0.5` or `u >= 0.5`, where that is what `function(u)` computes.

    Raises:
        CaptureError: it is no such comparison.
    """
    values = function(PROBE).to(torch.float32)
    above = int((values == 0).sum())
    is_step = values.shape == PROBE.shape and bool((values[:above] == 0).all() and (values[above:] == 1).all())
    if not is_step or above in (0, len(PROBE)):
        raise CaptureError(
            f"the forward of {name} is not 0 below a threshold and 1 above; spiking functions that compare with a "
            "threshold are supported; register the whole neuron with spikenm_compile.register_neuron"
        )
    first = _first(function, float(PROBE[above - 1]), float(PROBE[above]))
    before = np.nextafter(np.float32(first), np.float32(-np.inf))
    if first > 0 and before <= 0:
        return ">", 0.0
    if len(str(before)) < len(str(np.float32(first))):
        return ">", float(str(before))
    return ">=", float(str(np.float32(first)))


def comparison_of_two(name: str, function: Callable[[Tensor, Tensor], Tensor]) -> str:
    """Symbol of `a > b` or `a >= b`, where that is what `function(a, b)` computes.

    Raises:
        CaptureError: it is neither.
    """
    sample = PROBE[:: len(PROBE) // 64]
    a, b = sample[:, None], sample[None, :]
    values = function(a, b).to(torch.float32)
    for symbol, expected in ((">", a > b), (">=", a >= b)):
        if torch.equal(values, expected.to(torch.float32)):
            return symbol
    raise CaptureError(
        f"the forward of {name} does not compare its two inputs; spiking functions that compare are supported; "
        "register the whole neuron with spikenm_compile.register_neuron"
    )


def _first(function: Function, low: float, high: float) -> float:
    """Least float32 number at which the function is 1, given that it is 0 at `low` and 1 at `high`."""
    below, above = _rank(low), _rank(high)
    while above - below > 1:
        middle = (below + above) // 2
        if bool(function(torch.tensor([_ranked(middle)])) == 1):
            above = middle
        else:
            below = middle
    return _ranked(above)


def _rank(value: float) -> int:
    """Place of a number in the order of all float32 numbers; zero has place 0."""
    bits = int(np.abs(np.float32(value)).view(np.int32))
    return bits if value >= 0 else -bits


def _ranked(rank: int) -> float:
    magnitude = float(np.int32(abs(rank)).view(np.float32))
    return magnitude if rank >= 0 else -magnitude
