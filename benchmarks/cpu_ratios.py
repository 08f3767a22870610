"""Ratios of medians: how many times the best peer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.cpu_peers import BARE, INT8
from benchmarks.cpu_results import Row


def at(rows: Iterable[Row], place: str, x: float | None = None) -> list[Row]:
    """Rows of a place, and of one x there."""
    return [row for row in rows if row.place == place and x in (None, row.x)]


def best(rows: Iterable[Row], names: Sequence[str]) -> Row | None:
    """The quickest of these; None where none of them was measured."""
    return min((row for row in rows if row.what in names), key=lambda row: row.times.median, default=None)


def over(row: Row, peer: Row | None) -> float:
    """How many times the peer; not a number where there is none."""
    return float("nan") if peer is None else peer.times.median / row.times.median


def int8_peer(rows: Iterable[Row]) -> Row | None:
    """ONNX Runtime's int8, the quicker of its two forms."""
    return best(rows, INT8)


@dataclass(frozen=True)
class Slowest:
    """Where the chosen kernels gain least."""

    row: Row
    peer: str
    ratio: float


def slowest(rows: Sequence[Row]) -> Slowest | None:
    """The chosen kernel that is slowest beside the best peer of its layer at its density."""
    found = []
    for row in rows:
        peer = best(at(rows, row.place, row.x), BARE)
        if row.is_chosen and peer is not None:
            found.append(Slowest(row, peer.what, over(row, peer)))
    return min(found, key=lambda slow: slow.ratio, default=None)
