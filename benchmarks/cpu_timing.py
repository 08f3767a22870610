"""Calls in turns: each variant gets the same fresh inputs, and what one call takes of CPU and of the wall's clock.

A turn is some calls that bring a variant's code and weights near, then some that count; or, where caches are to be
cold, one call behind a walk over more memory than they hold.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Levels = npt.NDArray[np.uint8]
"""[T, C, H, W]: what a layer reads of one sample."""
Array = npt.NDArray[Any]

CACHE_BYTES = 64 << 20
"""Memory to walk over so that a core's caches hold nothing else: twice a last level of 32 MiB."""


class Given:
    """One input; each form that some variant reads it in is made once."""

    def __init__(self, levels: Levels) -> None:
        self._levels = levels
        self._forms: dict[Hashable, Array] = {}

    def form(self, key: Hashable, make: Callable[[Levels], Array]) -> Array:
        """The input in the form that `make` gives, known by `key`."""
        if key not in self._forms:
            self._forms[key] = make(self._levels)
        return self._forms[key]


@dataclass(frozen=True)
class Taken:
    """Microseconds of one call."""

    cpu: float
    """Of this thread."""
    wall: float


class Call(Protocol):
    """A layer that can be timed."""

    def give(self, given: Given, /) -> None:
        """Make a call ready; not timed."""

    def __call__(self) -> Taken:
        """One call of all steps."""


Runner = Sequence[Call]
"""Layers that are called one after the other."""


@dataclass(frozen=True)
class Plan:
    """How often calls are timed."""

    rounds: int
    warm: int = 1
    """Calls at the beginning of a turn that do not count."""
    timed: int = 7
    """Calls of a turn that count."""
    is_cold: bool = False
    """Whether caches are emptied before each call."""
    enough: float = 0.3
    """Seconds after which a variant sits out what rounds are left."""


@dataclass(frozen=True)
class Times:
    """Microseconds of a call over many."""

    least: float
    low: float
    """First quartile."""
    median: float
    high: float
    """Third quartile."""
    wall: float
    """Median on the wall's clock; all others are of the thread's."""
    layers: tuple[float, ...] = ()
    """Medians of each layer, where there are several."""

    @classmethod
    def of(cls, calls: Sequence[Sequence[Taken]]) -> Times:
        """Of what each layer took in each of two calls or more."""
        cpu = [sum(taken.cpu for taken in call) for call in calls]
        low, median, high = statistics.quantiles(cpu, n=4, method="inclusive")
        wall = statistics.median(sum(taken.wall for taken in call) for call in calls)
        layers = [statistics.median(taken.cpu for taken in layer) for layer in zip(*calls, strict=True)]
        least, low, median, high, wall = (round(x, 2) for x in (min(cpu), low, median, high, wall))
        each = tuple(round(x, 2) for x in layers) if len(layers) > 1 else ()
        return cls(least, low, median, high, wall, each)


def take_turns(runners: Mapping[str, Runner], draw: Callable[[], Sequence[Given]], plan: Plan) -> dict[str, Times]:
    """Time all runners.

    Args:
        runners: name -> layers.
        draw: gives a fresh input for each layer.
        plan: how often.
    """
    calls: dict[str, list[list[Taken]]] = {name: [] for name in runners}
    for _ in range(plan.rounds):
        inputs = [draw() for _ in range(plan.warm + plan.timed)]
        for name, runner in runners.items():
            if not _has_enough(calls[name], plan):
                turn = [_call(runner, givens, plan.is_cold) for givens in inputs]
                calls[name] += turn[plan.warm :]
    return {name: Times.of(found) for name, found in calls.items()}


def _has_enough(calls: Sequence[Sequence[Taken]], plan: Plan) -> bool:
    return len(calls) > 1 and sum(taken.cpu for call in calls for taken in call) > plan.enough * 1e6


def _call(runner: Runner, givens: Sequence[Given], is_cold: bool) -> list[Taken]:
    for call, given in zip(runner, givens, strict=True):
        call.give(given)
    if is_cold:
        _walk()
    return [call() for call in runner]


def _walk() -> None:
    """Touch more memory than the caches hold."""
    memory = _memory()
    np.add(memory, 1, out=memory)


@lru_cache(maxsize=1)
def _memory() -> Levels:
    return np.zeros(CACHE_BYTES, np.uint8)


def random_spikes(shape: tuple[int, int, int], num_steps: int, density: float, rng: np.random.Generator) -> Levels:
    """Independent spikes [T, *shape]."""
    return (rng.random((num_steps, *shape), np.float32) < density).astype(np.uint8)
