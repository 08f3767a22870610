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

from benchmarks.frontier_nets import FOLDER, WEIGHTS, name_of, planned, train
from benchmarks.learning import splits_of
from benchmarks.learning_store import Store


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["train", "measure", "tables", "plots"])
    parser.add_argument("--splits", type=splits_of, default=[0], metavar="0-2", help="default 0")
    parser.add_argument("--only", default="", metavar="REGEX", help="networks whose name has this in it")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help=f"folder of the weights, default {WEIGHTS}")
    options = parser.parse_args(arguments)
    runs = [run for run in planned(options.splits) if re.search(options.only, name_of(run))]
    if options.command == "train":
        train(runs, Store(FOLDER), options.weights)
    return 0


if __name__ == "__main__":
    sys.exit(main())
