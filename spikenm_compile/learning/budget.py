"""One pattern for each layer under a budget for all of them: a multiple-choice knapsack, solved by its Pareto front.

    minimise    Σ_layers loss(layer, option)
    subject to  Σ_layers cost(layer, option) <= budget        one option of each layer

After each layer only the partial choices stay that no other beats in both cost and loss, so that the last front holds
the optimum for costs of any kind. Fronts of more than LARGEST_FRONT are thinned to the best of each of as many equal
stretches of cost: the budget then still holds, and the loss is nearly the smallest.

That increases of the loss add up over layers is the assumption of mixed-precision search by integer programming
(HAWQ-V3, Yao et al., ICML 2021); N:M chosen layer by layer is the theme of DominoSearch (Sun et al., NeurIPS 2021).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from spikenm_compile.errors import InputError
from spikenm_compile.pattern import Pattern

LARGEST_FRONT = 20_000
ROUNDING = 1e-9
"""A sum of costs may be larger than the budget by this share of it: sums of floats are not exact."""


@dataclass(frozen=True, slots=True)
class Option:
    """What one layer may become."""

    pattern: Pattern | None
    """None: dense."""
    loss: float
    """Increase of the loss."""
    cost: float


@dataclass(frozen=True, slots=True)
class _Partial:
    """A choice for the first layers, newest first."""

    cost: float
    loss: float
    option: Option | None = None
    before: _Partial | None = None

    def and_then(self, option: Option) -> _Partial:
        return _Partial(self.cost + option.cost, self.loss + option.loss, option, self)


def choose_options(options: Mapping[str, Sequence[Option]], budget: float) -> dict[str, Option]:
    """The option of each layer that together have the smallest loss; among equals the cheapest.

    Raises:
        InputError: even the cheapest options cost more than `budget`.
    """
    cheapest = [min(option.cost for option in of_layer) for of_layer in options.values()]
    limit = budget + abs(budget) * ROUNDING
    if sum(cheapest) > limit:
        raise InputError(
            f"a budget of {budget:g} is impossible: the smallest that these patterns allow is {sum(cheapest):g}; "
            "give a larger budget or sparser patterns"
        )
    front = [_Partial(0.0, 0.0)]
    for position, of_layer in enumerate(options.values()):
        left = limit - sum(cheapest[position + 1 :])
        extended = [partial.and_then(option) for partial in front for option in of_layer]
        front = _thinned(_pareto([partial for partial in extended if partial.cost <= left]))
    return dict(zip(options, _chosen(front[-1]), strict=True))


def _pareto(partials: list[_Partial]) -> list[_Partial]:
    """Those that no other beats in both, by rising cost and falling loss."""
    front: list[_Partial] = []
    for partial in sorted(partials, key=lambda p: (p.cost, p.loss)):
        if not front or partial.loss < front[-1].loss:
            front.append(partial)
    return front


def _thinned(front: list[_Partial]) -> list[_Partial]:
    """At most LARGEST_FRONT + 1 of a front: the smallest loss of each stretch of cost, and the cheapest."""
    if len(front) <= LARGEST_FRONT:
        return front
    first, width = front[0].cost, (front[-1].cost - front[0].cost) / (LARGEST_FRONT - 1)
    best = {int((partial.cost - first) / width): partial for partial in front}
    return [front[0], *(partial for partial in best.values() if partial is not front[0])]


def _chosen(last: _Partial) -> list[Option]:
    chosen: list[Option] = []
    partial: _Partial | None = last
    while partial is not None and partial.option is not None:
        chosen.append(partial.option)
        partial = partial.before
    return chosen[::-1]
