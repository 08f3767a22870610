"""The tables of schedules: all tries on validation splits, the finalists on test splits."""

from __future__ import annotations

import dataclasses

from benchmarks.learning_runs import Run
from benchmarks.learning_statistics import difference_text, loss, markdown, mean_text, paired, spread_text, summary
from benchmarks.learning_store import Store
from benchmarks.learning_tries import COMPARED, PATTERNS, dense_tries, finalists, tries


def tuning_table(store: Store) -> str:
    """Every try on the validation splits, also those that fail."""
    by_pattern = {pattern: {name: validated(run) for name, run in tries(pattern).items()} for pattern in PATTERNS}
    rows = []
    for name in tries(PATTERNS[0]):
        row = [name]
        for runs in by_pattern.values():
            results, base = store.of(runs[name]), store.of(next(iter(runs.values())))
            row += [spread_text(summary(results)), mean_text(summary(results, loss))]
            row += [difference_text(paired(results, base)), difference_text(paired(results, base, loss), 3)]
        rows.append(row)
    columns = ("accuracy", "cross-entropy", "Δ accuracy", "Δ cross-entropy")
    return markdown(["", *(f"{pattern} {column}" for pattern in PATTERNS for column in columns)], rows)


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
    for pattern in PATTERNS:
        for name, run in finalists(pattern).items():
            results = store.of(run)
            rows.append([f"{pattern} {name}", spread_text(summary(results)), mean_text(summary(results, loss))])
    return markdown(["", "accuracy", "cross-entropy"], rows)


def comparison_table(store: Store) -> str:
    """Differences of finalists, paired."""
    rows = []
    for pattern in PATTERNS:
        runs = finalists(pattern)
        for a, b in COMPARED:
            ours, theirs = store.of(runs[a]), store.of(runs[b])
            differences = difference_text(paired(ours, theirs), 2), difference_text(paired(ours, theirs, loss), 3)
            rows.append([f"{pattern} {a} − {b}", *differences])
    return markdown(["", "Δ accuracy", "Δ cross-entropy"], rows)
