"""The tables of results/learning/README.md, computed from the store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from benchmarks.learning_plans import LEARNERS, PATTERNS, STRESS_PATTERNS, stress_run, variant
from benchmarks.learning_runs import Run
from benchmarks.learning_statistics import (
    NOTHING,
    Results,
    Summary,
    Value,
    accuracy,
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

Runs = Mapping[str, Mapping[str, Run]]
"""Pattern -> name of the learner -> its run."""
PAIRS = (
    ("SpikeNM − dense", "spikenm", "dense"),
    ("SpikeNM − SR-STE", "spikenm", "sr-ste"),
    ("SpikeNM − ASP", "spikenm", "asp"),
    ("EID − none", "spikenm + EID", "spikenm"),
)


def acceptance_tables(store: Store) -> Iterator[str]:
    """Every learner at every pattern."""
    for data, patterns in PATTERNS.items():
        dense = store.of(variant(data))
        runs = {
            p: {name: make(data, p) for name, make in LEARNERS.items()} | {"dense": variant(data)} for p in patterns
        }
        yield f"### {'Event digits' if data == 'event' else 'Digits'}"
        yield (
            f"Dense: {spread_text(summary(dense))} points, cross-entropy {mean_text(summary(dense, loss))}, "
            f"{mean_text(summary(dense, rate))} spikes per neuron and step."
        )
        yield "Accuracy in points, mean ± standard deviation (splits):"
        yield _of_learners(runs, lambda run: spread_text(summary(store.of(run))))
        yield "Cross-entropy:"
        yield _of_learners(runs, lambda run: mean_text(summary(store.of(run), loss)))
        yield "Accuracy, differences on the same split, mean ± standard error (splits):"
        yield _of_pairs(store, runs, accuracy, 1)
        yield "Cross-entropy, the same:"
        yield _of_pairs(store, runs, loss, 3)
        yield "Firing rate, and share of kept weights replaced from epoch 1 to 2, 4 to 5, 7 to 8:"
        yield _of_learners(runs, lambda run: habits_text(store.of(run)))


def _of_learners(runs: Runs, cell: Callable[[Run], str]) -> str:
    rows = [[pattern, *(cell(by_name[name]) for name in LEARNERS)] for pattern, by_name in runs.items()]
    return markdown(["", *LEARNERS], rows)


def _of_pairs(store: Store, runs: Runs, value: Value, digits: int) -> str:
    rows = []
    for pattern, by_name in runs.items():
        differences = [paired(store.of(by_name[a]), store.of(by_name[b]), value) for _, a, b in PAIRS]
        rows.append([pattern, *(difference_text(difference, digits) for difference in differences)])
    return markdown(["", *(name for name, _, _ in PAIRS)], rows)


def habits_text(results: Results) -> str:
    """Firing rate, and flips at their places of the training."""
    if not results:
        return NOTHING
    flips = zip(*(measured.flips for measured in results.values()), strict=True)
    return f"{summary(results, rate).mean:.3f}, {'/'.join(f'{Summary.of(place).mean:.2f}' for place in flips)}"


def stress_table(store: Store) -> str:
    """What the distillation is for: sampling with much noise."""
    rows = []
    for pattern in STRESS_PATTERNS:
        without, with_eid = store.of(stress_run(pattern, 0.0)), store.of(stress_run(pattern, 1.0))
        gain = difference_text(paired(with_eid, without))
        rows.append([f"digits {pattern}", spread_text(summary(without)), spread_text(summary(with_eid)), gain])
    return markdown(["", "no EID", "EID (λ = 1)", "gain"], rows)
