"""Accuracy of the mask learners, paired by split: measures what is missing, keeps every result, writes the tables.

acceptance   what the learners must reach
chosen       what they must reach at settings chosen on validation splits
stress       what the distillation (EID) is for
init         what the scale of the first weights decides
tuning       schedules tried on validation splits, inside of the training part
schedules    the chosen ones against SR-STE, on test splits
activity     what firing less costs
frontier     accuracy against weights and work, at three widths
tables       results/learning/README.md, from all results
plots        the pictures in it
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from benchmarks.learning_activity import activity
from benchmarks.learning_checks import chosen
from benchmarks.learning_frontier import frontier, splits_for
from benchmarks.learning_init import init
from benchmarks.learning_plans import acceptance, stress
from benchmarks.learning_plots import plot_frontier
from benchmarks.learning_report import write_report
from benchmarks.learning_runs import Run
from benchmarks.learning_store import Store
from benchmarks.learning_tries import schedules, tuning
from benchmarks.learning_work import estimate, work

PLANS: Mapping[str, Callable[[], Iterator[Run]]] = {
    "acceptance": acceptance,
    "chosen": chosen,
    "stress": stress,
    "init": init,
    "tuning": tuning,
    "schedules": schedules,
    "activity": activity,
    "frontier": frontier,
}
NUM_SPLITS = {
    "acceptance": 5,
    "chosen": 5,
    "stress": 3,
    "init": 3,
    "tuning": 2,
    "schedules": 10,
    "activity": 2,
    "frontier": 3,
}
"""How many splits a command measures where it is not told."""
VALIDATED = {"tuning"}
"""Commands whose runs never see the test part."""


def planned(command: str, splits: Iterable[int]) -> list[Run]:
    """Runs of a command, all of a split before the next split."""
    variants = list(PLANS[command]())
    runs = [dataclasses.replace(v, split=s, validate=command in VALIDATED) for s in splits for v in variants]
    return [run for run in runs if command != "frontier" or run.split < splits_for(run)]


def splits_of(text: str) -> list[int]:
    """Numbers of "0-4" or "0,2,5"."""
    numbers: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        numbers.extend(range(int(first), int(last or first) + 1))
    return numbers


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=[*PLANS, "tables", "plots"])
    parser.add_argument("--splits", type=splits_of, metavar="0-4", help="default: as many as the command needs")
    parser.add_argument("--only", default="", metavar="REGEX", help="runs whose description has this in it")
    parser.add_argument("--workers", type=int, default=1, help="processes of one thread each (default 1)")
    parser.add_argument("--list", action="store_true", help="print what is missing and how long it will take")
    options = parser.parse_args(arguments)
    store = Store()
    if options.command == "plots":
        plot_frontier(store, store.folder)
        return 0
    if options.command == "tables":
        print(write_report(store))
        return 0
    missing = [
        r
        for r in planned(options.command, options.splits or range(NUM_SPLITS[options.command]))
        if r not in store and re.search(options.only, str(r))
    ]
    seconds = sum(estimate(run, store) for run in missing)
    print(f"{len(missing)} runs are missing, about {seconds / 60:.0f} core-minutes", flush=True)
    if options.list:
        for run in missing:
            print(f"split {run.split:2}  {run}")
        return 0
    work(missing, store, options.command, options.workers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
