"""What it costs to fire less: networks trained with a penalty on firing rates above a target."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.learning_plans import spikenm, variant
from benchmarks.learning_runs import Run, Value
from benchmarks.learning_statistics import (
    difference_text,
    markdown,
    mean_text,
    paired,
    rate,
    shared,
    spread_text,
    summary,
)
from benchmarks.learning_store import Store
from benchmarks.learning_tries import CHOSEN, QUICKEST

TARGETS = (0.0, 0.2, 0.1, 0.05)
"""Spikes per neuron and step; 0: no penalty."""


def activity_runs(target: float) -> dict[str, Run]:
    """The networks at one target, by name."""
    wish: dict[str, Value] = {"activity": target} if target else {}
    return {
        "dense": variant("event", **QUICKEST, **wish),
        "2:4": spikenm("event", "2:4", **CHOSEN, **wish),
        "1:8": spikenm("event", "1:8", **CHOSEN, **wish),
    }


def activity() -> Iterator[Run]:
    """All targets."""
    for target in TARGETS:
        yield from activity_runs(target).values()


def activity_table(store: Store) -> str:
    """Accuracy with the firing rate held down, and its difference to the network without a target."""
    free = activity_runs(0.0)
    rows = []
    for target in TARGETS:
        row = ["none" if target == 0.0 else f"{target:.0%}"]
        for name, run in activity_runs(target).items():
            base = store.of(free[name])
            results = shared(store.of(run), store.of(free["dense"]))
            row += [spread_text(summary(results)), mean_text(summary(results, rate))]
            row.append(difference_text(paired(results, base)) if target else "")
        rows.append(row)
    columns = ("accuracy", "rate", "Δ accuracy")
    return markdown(["target", *(f"{name} {column}" for name in free for column in columns)], rows)
