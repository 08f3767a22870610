"""Means over splits, and differences paired by split, as the tables write them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.learning_runs import Measured

NOTHING = "–"
Results = Mapping[int, Measured]
"""Split -> what a variant reached there."""
Value = Callable[[Measured], float]
"""What is looked at."""


def accuracy(measured: Measured) -> float:
    """In points."""
    return measured.accuracy


def loss(measured: Measured) -> float:
    """Cross-entropy."""
    return measured.loss


def rate(measured: Measured) -> float:
    """Spikes per neuron and step."""
    return measured.rate


@dataclass(frozen=True, slots=True)
class Summary:
    """Mean and spread of some numbers; no numbers give NaN."""

    mean: float
    std: float
    """Standard deviation of a sample; 0 of one number."""
    n: int

    @property
    def error(self) -> float:
        """Standard error of the mean."""
        return self.std / math.sqrt(self.n)

    @classmethod
    def of(cls, values: Iterable[float]) -> Summary:
        """Summary of `values`."""
        numbers = list(values)
        if not numbers:
            return cls(float("nan"), float("nan"), 0)
        return cls(statistics.mean(numbers), statistics.stdev(numbers) if len(numbers) > 1 else 0.0, len(numbers))


def summary(results: Results, value: Value = accuracy) -> Summary:
    """Over all splits."""
    return Summary.of(value(measured) for measured in results.values())


def shared(results: Results, splits: Container[int]) -> Results:
    """Those on some splits, for example those of other results."""
    return {split: measured for split, measured in results.items() if split in splits}


def paired(results: Results, base: Results, value: Value = accuracy) -> Summary:
    """Differences to `base` on the splits that both have."""
    return Summary.of(value(results[split]) - value(base[split]) for split in sorted(results.keys() & base.keys()))


def spread_text(found: Summary, digits: int = 1) -> str:
    """Mean ± standard deviation (n)."""
    return f"{found.mean:.{digits}f}{_plus_minus(found.std, found.n, digits)}" if found.n else NOTHING


def mean_text(found: Summary, digits: int = 3) -> str:
    """Mean alone."""
    return f"{found.mean:.{digits}f}" if found.n else NOTHING


def difference_text(found: Summary, digits: int = 1) -> str:
    """Mean difference ± its standard error (n)."""
    return f"{found.mean:+.{digits}f}{_plus_minus(found.error, found.n, digits)}" if found.n else NOTHING


def _plus_minus(deviation: float, n: int, digits: int) -> str:
    """Nothing is known of the spread of one number."""
    return f" ± {deviation:.{digits}f} ({n})" if n > 1 else f" ({n})"


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; rows that hold nothing but their name are left out."""
    kept = [row for row in rows if any(cell not in (NOTHING, "") for cell in row[1:])]
    lines = [header, ["---"] * len(header), *kept]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
