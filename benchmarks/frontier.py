"""Accuracy against microseconds: networks that learned masks and whole numbers, beside dense ones in ONNX Runtime.

train     trains what is missing; hours for all, minutes for the first networks of a split; may be stopped at any time
measure   builds every trained network and times it, one thread, beside the peers; minutes
tables    results/frontier/README.md
plots     the picture in it
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.frontier_measure import measure, read_points, write_points
from benchmarks.frontier_nets import FOLDER, WEIGHTS, name_of, planned, train
from benchmarks.frontier_plot import plot
from benchmarks.frontier_tables import over_splits, write_report
from benchmarks.learning import splits_of
from benchmarks.learning_store import Store

POINTS = FOLDER / "measured.json"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["train", "measure", "tables", "plots"])
    parser.add_argument("--splits", type=splits_of, default=[0], metavar="0-2", help="default 0")
    parser.add_argument("--only", default="", metavar="REGEX", help="networks whose name has this in it")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help=f"folder of the weights, default {WEIGHTS}")
    parser.add_argument("--rounds", type=int, default=7, help="of the measurement, default 7")
    options = parser.parse_args(arguments)
    runs = [run for run in planned(options.splits) if re.search(options.only, name_of(run))]
    if options.command == "train":
        train(runs, Store(FOLDER), options.weights)
    elif options.command == "measure":
        write_points(measure(runs, options.weights, options.rounds), POINTS)
    elif options.command == "tables":
        print(write_report(read_points(POINTS), Store(FOLDER), Store(), FOLDER / "README.md"))
    else:
        plot(over_splits(read_points(POINTS)), FOLDER / "frontier.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
