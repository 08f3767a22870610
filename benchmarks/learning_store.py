"""Where results are kept: lines of JSON that are only ever appended to, so that a kill loses the run it kills."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from benchmarks.learning_runs import Measured, Run

FOLDER = Path(__file__).parent / "results" / "learning"


class Store:
    """All results in the files *.jsonl of a folder.

    Args:
        folder: of the files; made when the first result comes.
    """

    def __init__(self, folder: Path = FOLDER) -> None:
        self.folder = folder
        self.variants: dict[Run, dict[int, Measured]] = {}
        """Run without its split -> split -> result."""
        for path in sorted(folder.glob("*.jsonl")):
            for run, measured in _read(path):
                self.remember(run, measured)

    def __contains__(self, run: Run) -> bool:
        return run.split in self.of(run)

    def __iter__(self) -> Iterator[tuple[Run, Measured]]:
        for variant, results in self.variants.items():
            for split, measured in results.items():
                yield replace(variant, split=split), measured

    def remember(self, run: Run, measured: Measured) -> None:
        """Hold a result without writing it."""
        self.variants.setdefault(run.variant, {})[run.split] = measured

    def add(self, name: str, run: Run, measured: Measured) -> None:
        """Append a result to `name`.jsonl: one write of one line, on the disk when this returns."""
        self.remember(run, measured)
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{name}.jsonl"
        line = json.dumps({"run": run.to_json(), "is": measured.to_json()}, separators=(",", ":")) + "\n"
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            torn = "\n" if _is_torn(file) else ""
            os.write(file, (torn + line).encode())
            os.fsync(file)
        finally:
            os.close(file)

    def of(self, variant: Run) -> dict[int, Measured]:
        """Split -> result of every run like `variant`."""
        return self.variants.get(variant.variant, {})


def _read(path: Path) -> Iterator[tuple[Run, Measured]]:
    """Whole lines only: a kill in the middle of a write leaves a line that is no JSON."""
    for line in path.read_text().splitlines():
        try:
            values = json.loads(line)
        except json.JSONDecodeError:
            continue
        yield Run.from_json(values["run"]), Measured.from_json(values["is"])


def _is_torn(file: int) -> bool:
    size = os.fstat(file).st_size
    return size > 0 and os.pread(file, 1, size - 1) != b"\n"
