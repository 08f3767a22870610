"""Accuracy of the mask learners, paired by split: measures what is missing, keeps every result, prints tables.

python -m benchmarks.learning acceptance --splits 0-4      what the learners must reach
python -m benchmarks.learning tables                       results/learning/README.md from all results
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import statistics
import sys
import time
from collections.abc import Iterable, Sequence

import torch

from benchmarks.learning_plans import PLANS
from benchmarks.learning_runs import Measured, Run
from benchmarks.learning_store import Store
from benchmarks.learning_training import keep_memory, measure

SECONDS = {"digits": 5.0, "event": 8.0}
"""Guess for a run of which nothing is known, at width 32."""


def planned(command: str, splits: Iterable[int], validate: bool = False) -> list[Run]:
    """Runs of a command, all variants of a split before the next split."""
    variants = list(PLANS[command]())
    return [dataclasses.replace(v, split=s, validate=validate) for s in splits for v in variants]


def estimate(run: Run, store: Store) -> float:
    """Seconds that a run will take: the mean of runs on the same data and network."""
    known = [m.seconds for r, m in store.results.values() if (r.data, r.net) == (run.data, run.net)]
    return statistics.mean(known) if known else SECONDS[run.data]


def work(runs: Sequence[Run], store: Store, name: str, workers: int) -> None:
    """Measure `runs`, each kept as soon as it is done; only this process writes."""
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


def splits_of(text: str) -> list[int]:
    """ "0-4" or "0,2,5" as numbers."""
    numbers: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        numbers.extend(range(int(first), int(last or first) + 1))
    return numbers


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("command", choices=[*PLANS])
    parser.add_argument("--splits", type=splits_of, default=splits_of("0-4"), metavar="0-4")
    parser.add_argument("--workers", type=int, default=1, help="processes of one thread each (default 1)")
    parser.add_argument("--list", action="store_true", help="print what is missing and how long it will take")
    options = parser.parse_args(arguments)
    store = Store()
    missing = [run for run in planned(options.command, options.splits) if run not in store]
    seconds = sum(estimate(run, store) for run in missing)
    print(f"{len(missing)} runs are missing, about {seconds / 60:.0f} core-minutes")
    if options.list:
        for run in missing:
            print(f"split {run.split:2}  {run}")
        return 0
    work(missing, store, options.command, options.workers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
