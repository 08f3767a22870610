"""Latency of several ways to run a network, measured side by side: a burst of calls of each in turn, many rounds.

In turn, so that drift of the machine hits all alike; in bursts, so that each finds its own code and weights in the
cache as it would when it serves alone.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

BURST = 10
"""Calls in a row; the first of each burst is not counted."""


@dataclass(frozen=True)
class Latency:
    """Microseconds per call over all rounds."""

    median: float
    low: float
    """10th percentile."""
    high: float
    """90th percentile."""

    def __str__(self) -> str:
        return f"{self.median:.0f} µs ({self.low:.0f}-{self.high:.0f})"


def measure(calls: Mapping[str, Callable[[int], object]], rounds: int) -> dict[str, Latency]:
    """Time each function over `rounds` bursts; it gets the number of the call, to take another input each time."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for i in range(rounds):
        for name, call in calls.items():
            call(i * BURST)
            for j in range(1, BURST):
                start = time.perf_counter_ns()
                call(i * BURST + j)
                times[name].append((time.perf_counter_ns() - start) / 1000)
    return {name: summarize(values) for name, values in times.items()}


def summarize(values: Sequence[float]) -> Latency:
    """Median and spread."""
    if len(values) < 2:
        return Latency(values[0], values[0], values[0])
    tenths = statistics.quantiles(values, n=10)
    return Latency(statistics.median(values), tenths[0], tenths[-1])
