"""Writes results/learning/README.md: every table, and on what machine it was measured."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.learning_activity import activity_table
from benchmarks.learning_checks import check_table
from benchmarks.learning_frontier import frontier_tables
from benchmarks.learning_init import init_table
from benchmarks.learning_schedule_tables import comparison_table, dense_table, schedule_table, tuning_table
from benchmarks.learning_store import Store
from benchmarks.learning_tables import acceptance_tables, stress_table

INTRODUCTION = """\
Small spiking networks on small data: four convolutions (16-32-32-32 channels), 12 epochs in batches of 64, AdamW,
smoothed labels. Digits: scikit-learn's, 8×8 pixels, 4 steps. Event digits: the same, shaken in front of an event camera
(`training.event_digits`), 8 steps. Every split has its own test fifth, first weights, order and motion, and all
learners see the same ones, so that differences are paired. One test image is 0.28 points; a difference below two
standard errors may be luck. The number of splits stands in brackets."""


def processor() -> str:
    """Name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def sections(store: Store) -> Iterator[str]:
    """All parts of the report."""
    date = datetime.date.today().isoformat()
    seconds = [measured.seconds for _, measured in store]
    yield "# What the mask learners reach"
    yield (
        f"Written by `python -m benchmarks.learning tables` on {date} from {len(seconds)} runs,\n"
        f"{sum(seconds) / 3600.0:.1f} hours of one thread each on {processor()}, torch {torch.__version__}."
    )
    yield INTRODUCTION
    yield "## Acceptance"
    yield check_table(store)
    yield "## Learners (`acceptance`)"
    yield from acceptance_tables(store)
    yield "## Distillation where sampling is noisy (`stress`)"
    yield stress_table(store)
    yield "## The scale of the first weights (`init`)"
    yield init_table(store)
    yield "## Schedules at high sparsity (`tuning`, `schedules`)"
    yield "Validation splits, inside of the training part; differences to the first row:"
    yield tuning_table(store)
    yield dense_table(store)
    yield "Test splits:"
    yield schedule_table(store)
    yield comparison_table(store)
    yield "## Firing less (`activity`)"
    yield activity_table(store)
    yield "## Accuracy against weights and work (`frontier`)"
    yield from frontier_tables(store)
    yield "![accuracy against weights](frontier_weights.png)\n![accuracy against work](frontier_work.png)"


def write_report(store: Store) -> Path:
    """Write it beside the results."""
    path = store.folder / "README.md"
    path.write_text("\n\n".join(sections(store)) + "\n")
    return path
