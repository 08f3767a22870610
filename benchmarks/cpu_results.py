"""What was measured, as lines of JSON: the first says where and when, each further one is a row, a list of its fields.

Times have four digits.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.cpu_timing import Times
from spikenm_compile.errors import InputError
from spikenm_compile.targets.cpu import Cpu
from spikenm_compile.targets.this_machine import this_machine

FOLDER = Path(__file__).parent / "results" / "cpu"
PACKAGES = ("onnxruntime", "torch")
"""Peers, whose versions stand beside ours."""


@dataclass(frozen=True)
class Row:
    """One kernel or peer at one place."""

    place: str
    """A layer, a network, or a line."""
    x: float
    """Share of inputs that are active; on a line, where it is measured."""
    what: str
    """Pattern and type of weights, or the peer."""
    family: str
    """Kernel family; empty of a peer and of a network."""
    is_chosen: bool
    """Whether `build` takes this kernel here."""
    times: Times


@dataclass(frozen=True)
class About:
    """Where and when rows were measured."""

    machine: str
    cpu: str
    """What the kernels are compiled for."""
    date: str
    command: str
    versions: tuple[str, ...]

    @classmethod
    def now(cls, cpu: Cpu, command: str) -> About:
        """This machine today."""
        machine = this_machine(cpu)
        versions = [f"{name} {importlib.metadata.version(name)}" for name in PACKAGES]
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        return cls(machine.model, cpu.name, today, command, (*machine.versions, *versions))


class Results:
    """A file of one command.

    Args:
        path: of the file; it need not be there.

    Raises:
        InputError: a line is none of ours.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.about: About | None = None
        self.rows: list[Row] = []
        first, *lines = path.read_text().splitlines() if path.exists() else ("",)
        try:
            if first:
                about = json.loads(first)
                self.about = About(**about | {"versions": tuple(about["versions"])})
            self.rows = [_row(line) for line in lines]
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"{path} is no file of results ({error}); `python -m benchmarks.cpu` writes them, so measure again"
            ) from error

    @property
    def places(self) -> set[str]:
        """Places that have rows."""
        return {row.place for row in self.rows}

    def begin(self, about: About) -> None:
        """Forget what there is."""
        self.about, self.rows = about, []
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(asdict(about)) + "\n")

    def add(self, rows: Iterable[Row]) -> None:
        """Append all rows of a place in one write."""
        new = list(rows)
        self.rows += new
        with self.path.open("a") as file:
            file.write("".join(_line(row) for row in new))


def _line(row: Row) -> str:
    *times, layers = asdict(row.times).values()
    short = [[float(f"{time:.4g}") for time in part] for part in (times, layers)]
    values = [row.place, row.x, row.what, row.family, int(row.is_chosen), *short]
    return json.dumps(values, separators=(",", ":")) + "\n"


def _row(line: str) -> Row:
    place, x, what, family, is_chosen, times, layers = json.loads(line)
    least, low, median, high, wall = times
    return Row(place, x, what, family, bool(is_chosen), Times(least, low, median, high, wall, tuple(layers)))
