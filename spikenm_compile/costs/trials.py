"""Trials: what kernels of layers took on a machine, one JSON object a line of a log that only ever grows.

    {"layer": {...}, "machine": {...}, "kernel": {"family": "event-rows", "tile_width": 64},
     "timing": {"microseconds": 41.2, "ratio": 0.83}, "failure": null}

A line is written at once, so that a log whose writer was killed ends in whole lines or in the beginning of one, which
readers pass over and the next writer cuts off. `ratio` is to the target's usual kernel, timed in turns with this one:
trials of other days, and of a busier machine, compare by it.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from spikenm_compile.costs.layer_call import LayerCall
from spikenm_compile.costs.row_shapes import weight_bits
from spikenm_compile.errors import InputError

BUCKETS = 2
"""Densities of a bucket differ by less than the square root of two: 2 buckets for each doubling."""


@dataclass(frozen=True)
class Kernel:
    """A kernel family and its parameters."""

    family: str
    tile_width: int
    """Outputs that one pass over the inputs computes."""


@dataclass(frozen=True)
class Machine:
    """Where and with what a trial was made."""

    cpu: str
    """What the kernels are compiled for (targets.cpu)."""
    model: str
    """The machine's own name of its CPU."""
    versions: tuple[str, ...]
    """Of the packages that make the kernels."""


@dataclass(frozen=True, order=True)
class Timing:
    """What a kernel took; the least is the best."""

    ratio: float
    """To the usual kernel of its layer, timed in turns with it."""
    microseconds: float


@dataclass(frozen=True)
class Trial:
    """One kernel of one layer on one machine."""

    key: str
    """Layer and machine (`key_of`)."""
    kernel: Kernel
    timing: Timing | None
    """None where it failed."""
    failure: str | None = None


def bucket_of(density: float) -> int:
    """Number of a density's bucket; 0 % has one of its own."""
    return -100 if density <= 0 else round(BUCKETS * math.log2(density))


def key_of(call: LayerCall, machine: Machine) -> str:
    """All that a kernel's time depends on, as text: equal for calls whose times are taken to be equal."""
    layer = asdict(call) | {
        "density": bucket_of(call.density),
        "mean_level": bucket_of(call.mean_level),
        "pattern": None if call.pattern is None else str(call.pattern),
        "largest_weight": weight_bits(call.largest_weight, call.outputs),
    }
    return json.dumps({"layer": layer, "machine": asdict(machine)}, sort_keys=True)


def machine_of(key: str) -> Machine:
    """The machine of a key."""
    about = json.loads(key)["machine"]
    return Machine(about["cpu"], about["model"], tuple(about["versions"]))


def line_of(trial: Trial) -> str:
    """A line of the log."""
    about: dict[str, Any] = json.loads(trial.key)
    timing = None if trial.timing is None else asdict(trial.timing)
    found = {"kernel": asdict(trial.kernel), "timing": timing, "failure": trial.failure}
    return json.dumps(about | found, sort_keys=True) + "\n"


def read_trials(path: Path) -> tuple[Trial, ...]:
    """All trials of a log.

    Raises:
        InputError: the file cannot be read, or a line of it is no trial.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"tune log '{path}' cannot be read ({error}); a file that `tune` wrote is needed, so give its name or run "
            "tune first"
        ) from error
    whole, _, _ = text.rpartition("\n")
    return tuple(_trial(path, i, line) for i, line in enumerate(whole.splitlines(), start=1))


def _trial(path: Path, number: int, line: str) -> Trial:
    try:
        record: Mapping[str, Any] = json.loads(line)
        key = json.dumps({"layer": record["layer"], "machine": record["machine"]}, sort_keys=True)
        kernel = Kernel(str(record["kernel"]["family"]), int(record["kernel"]["tile_width"]))
        timing = record["timing"]
        if timing is not None:
            timing = Timing(float(timing["ratio"]), float(timing["microseconds"]))
        return Trial(key, kernel, timing, record["failure"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"line {number} of tune log '{path}' is no trial ({type(error).__name__}: {error}); lines that `tune` "
            "wrote are needed, so remove that line or give another file"
        ) from error


def append_trial(path: Path, trial: Trial) -> None:
    """Add one line, and have it on disk when this returns; what a killed writer began is cut off."""
    with path.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        _cut_unfinished(file.fileno(), path)
        os.write(file.fileno(), line_of(trial).encode())
        os.fsync(file.fileno())


def _cut_unfinished(descriptor: int, path: Path) -> None:
    content = path.read_bytes()
    if content and not content.endswith(b"\n"):
        os.ftruncate(descriptor, content.rfind(b"\n") + 1)
