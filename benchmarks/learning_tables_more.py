"""The tables of schedules, activity targets and the frontier."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from benchmarks.learning_activity import TARGETS, activity_runs
from benchmarks.learning_frontier import KINDS, PATTERNS, WIDTHS, dense, weights_of, work_of
from benchmarks.learning_runs import Run
from benchmarks.learning_statistics import (
    difference_text,
    loss,
    markdown,
    mean_text,
    paired,
    rate,
    spread_text,
    summary,
)
from benchmarks.learning_store import Store
from benchmarks.learning_tries import COMPARED, dense_tries, finalists, tries
from benchmarks.learning_tries import PATTERNS as HIGH_SPARSITY


def tuning_table(store: Store) -> str:
    """Every try on the validation splits, also those that fail."""
    by_pattern = {pattern: {name: validated(run) for name, run in tries(pattern).items()} for pattern in HIGH_SPARSITY}
    rows = []
    for name in tries(HIGH_SPARSITY[0]):
        row = [name]
        for runs in by_pattern.values():
            results, base = store.of(runs[name]), store.of(next(iter(runs.values())))
            row += [spread_text(summary(results)), mean_text(summary(results, loss))]
            row += [difference_text(paired(results, base)), difference_text(paired(results, base, loss), 3)]
        rows.append(row)
    columns = ("accuracy", "cross-entropy", "Δ accuracy", "Δ cross-entropy")
    return markdown(["", *(f"{pattern} {column}" for pattern in HIGH_SPARSITY for column in columns)], rows)


def dense_table(store: Store) -> str:
    """Dense networks on the same validation splits."""
    rows = []
    for name, run in dense_tries().items():
        results = store.of(validated(run))
        rows.append([name, spread_text(summary(results)), mean_text(summary(results, loss))])
    return markdown(["", "accuracy", "cross-entropy"], rows)


def validated(run: Run) -> Run:
    """The same as a validation run."""
    return dataclasses.replace(run, validate=True)


def schedule_table(store: Store) -> str:
    """The finalists on test splits."""
    rows = []
    for pattern in HIGH_SPARSITY:
        for name, run in finalists(pattern).items():
            results = store.of(run)
            rows.append([f"{pattern} {name}", spread_text(summary(results)), mean_text(summary(results, loss))])
    return markdown(["", "accuracy", "cross-entropy"], rows)


def comparison_table(store: Store) -> str:
    """Differences of finalists, paired."""
    rows = []
    for pattern in HIGH_SPARSITY:
        runs = finalists(pattern)
        for a, b in COMPARED:
            ours, theirs = store.of(runs[a]), store.of(runs[b])
            differences = difference_text(paired(ours, theirs), 2), difference_text(paired(ours, theirs, loss), 3)
            rows.append([f"{pattern} {a} − {b}", *differences])
    return markdown(["", "Δ accuracy", "Δ cross-entropy"], rows)


def activity_table(store: Store) -> str:
    """Accuracy with the firing rate held down."""
    rows = []
    for target in TARGETS:
        row = ["none" if target == 0.0 else f"{target:.0%}"]
        for run in activity_runs(target).values():
            results = store.of(run)
            row += [spread_text(summary(results)), mean_text(summary(results, rate))]
        rows.append(row)
    names = activity_runs(0.0)
    return markdown(["target", *(f"{name} {column}" for name in names for column in ("accuracy", "rate"))], rows)


def frontier_tables(store: Store) -> Iterator[str]:
    """Kinds of masks by width."""
    for width in WIDTHS:
        full = dense(str(width))
        yield (
            f"Width {width}: dense {spread_text(summary(store.of(full)))} points, {weights_of(full)} weights, "
            f"{work_of(full)} multiply-accumulates a step."
        )
        rows = []
        for pattern in PATTERNS:
            runs = {kind: make(width, pattern) for kind, make in KINDS.items()}
            cost = f"{pattern}, {weights_of(runs['learned'])} weights, work {work_of(runs['learned'])}"
            rows.append([cost, *(spread_text(summary(store.of(run))) for run in runs.values())])
        yield markdown(["", *KINDS], rows)
