"""How long calls take on a machine that others use too: in turns, and the least of many rounds counts.

Each input is timed on its own, since its events are what a call costs: the least over rounds of each, then the mean
over inputs. What disturbs a call only ever makes it longer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

Clock = Callable[[], int]
"""Nanoseconds."""

ENOUGH = 0.5
"""Seconds of one measurement, all kernels together."""
MOST_ROUNDS, FEWEST_ROUNDS = 200, 5


class Timed(Protocol):
    """Something with inputs."""

    def set_input(self, index: int, /) -> None:
        """Make a call ready on input number `index`; not timed."""

    def __call__(self) -> None:
        """The call."""


def least_times(
    timed: Sequence[Timed], num_inputs: int, clock: Clock = time.thread_time_ns, enough: float = ENOUGH
) -> list[float]:
    """Microseconds a call of each of `timed`.

    Args:
        timed: what is measured, in turns.
        num_inputs: of each.
        clock: of this thread, so that others' turns on the core do not count.
        enough: seconds after which no further round begins.
    """
    least = [[float("inf")] * num_inputs for _ in timed]
    spent = 0
    for number in range(MOST_ROUNDS):
        if number >= FEWEST_ROUNDS and spent > enough * 1e9:
            break
        for index in range(num_inputs):
            for which, call in enumerate(timed):
                call.set_input(index)
                start = clock()
                call()
                taken = clock() - start
                least[which][index] = min(least[which][index], taken)
                spent += taken
    return [sum(times) / num_inputs / 1000 for times in least]
