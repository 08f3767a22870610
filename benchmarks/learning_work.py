"""Measuring what is missing: each result is kept as soon as it is there, and only this process writes."""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Iterable, Sequence

import torch

from benchmarks.learning_runs import STEPS, Measured, Run
from benchmarks.learning_store import Store
from benchmarks.learning_training import keep_memory, measure

SECONDS = {"digits": 5.0, "event": 9.0}
"""Guess for a run of STEPS steps at width 32."""


def estimate(run: Run, store: Store) -> float:
    """Seconds that a run will take: the mean of runs on the same data and network, else a guess from the width."""
    known = [m.seconds for r, m in store if (r.data, r.net) == (run.data, run.net)]
    if known:
        return statistics.mean(known)
    width = int(run.net.rpartition("-")[2])
    return SECONDS[run.data] * max(0.5, width / 32.0) * run.training().steps / STEPS


def work(runs: Sequence[Run], store: Store, name: str, workers: int) -> None:
    """Measure `runs` and append their results to `name`.jsonl."""
    started = time.perf_counter()
    for number, (run, measured) in enumerate(_results(runs, workers), start=1):
        store.add(name, run, measured)
        print(
            f"{time.perf_counter() - started:6.0f} s {number:4}/{len(runs)}  split {run.split:2}  {run}: "
            f"{measured.accuracy:.2f} % {measured.loss:.3f}  {measured.seconds:.1f} s",
            flush=True,
        )


def _results(runs: Sequence[Run], workers: int) -> Iterable[tuple[Run, Measured]]:
    if workers == 1:
        _begin()
        yield from map(_measured, runs)
        return
    with multiprocessing.get_context("spawn").Pool(workers, _begin) as pool:
        yield from pool.imap_unordered(_measured, runs)


def _begin() -> None:
    torch.set_num_threads(1)
    keep_memory()


def _measured(run: Run) -> tuple[Run, Measured]:
    return run, measure(run)
