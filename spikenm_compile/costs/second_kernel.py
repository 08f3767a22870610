"""Whether a layer should have a second kernel, for calls that are sparser or denser than what it was measured on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from spikenm_compile.costs.cpu_costs import CpuCosts
from spikenm_compile.costs.layer_call import LayerCall

PLAUSIBLE = (0.5, 2.0)
"""Densities that a call may well have, in units of the measured one."""
WORTH_A_KERNEL = 0.1
"""Share of the time that it must save there: its weight rows take memory."""
HALVINGS = 20
"""Of the range that the densities of equal times are looked for in."""


@dataclass(frozen=True)
class SecondKernel:
    """A family that is predicted to be quicker from a density on, or below it."""

    family: str
    density: float
    """Where both take the same time."""
    is_denser: bool
    saves: float
    """Share of the first kernel's time, at half or double the measured density."""


def second_kernel(costs: CpuCosts, call: LayerCall, families: Sequence[str], first: str) -> SecondKernel | None:
    """The second kernel that saves most; None where none is worth it.

    None too where another family than `first`, which was measured to be the best, is predicted to be the best: times
    that are wrong there are no guide elsewhere.
    """
    if not call.is_binary or _quickest(costs, call, families) != first:
        return None
    found = (_at(costs, call, families, first, factor) for factor in PLAUSIBLE)
    return max((second for second in found if second is not None), key=lambda second: second.saves, default=None)


def _at(costs: CpuCosts, call: LayerCall, families: Sequence[str], first: str, factor: float) -> SecondKernel | None:
    far = replace(call, density=min(1.0, call.density * factor))
    family = _quickest(costs, far, families)
    if family == first:
        return None
    saves = 1 - costs.microseconds(far, family) / costs.microseconds(far, first)
    if saves <= WORTH_A_KERNEL:
        return None
    return SecondKernel(family, _crossing(costs, call, far, first, family), factor > 1, saves)


def _crossing(costs: CpuCosts, near: LayerCall, far: LayerCall, first: str, second: str) -> float:
    """Density between two calls' at which both families take the same time: bisection."""
    for _ in range(HALVINGS):
        middle = replace(near, density=(near.density + far.density) / 2)
        if costs.microseconds(middle, first) <= costs.microseconds(middle, second):
            near = middle
        else:
            far = middle
    return near.density


def _quickest(costs: CpuCosts, call: LayerCall, families: Sequence[str]) -> str:
    return min(families, key=lambda family: costs.microseconds(call, family))
