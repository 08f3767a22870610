"""results/frontier/README.md: what every deployed network reaches and takes, and ours beside the peers they match."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnxruntime

from benchmarks.frontier_measure import CONVOLUTIONS, OURS, Point
from benchmarks.frontier_nets import PATTERNS, PEER_WIDTHS, WIDTHS, weight_type_of
from benchmarks.learning_runs import Measured, Run, sorted_options
from benchmarks.learning_statistics import NOTHING, Summary, difference_text, markdown
from benchmarks.learning_store import Store
from spikenm_compile.targets.cpu import detect
from spikenm_compile.weight_types import WEIGHT_TYPES

PEERS = ("float32", "int8")
GOAL = 3.0
"""How many times as fast one of ours should be at the accuracy of a peer."""
ABOUT = """\
Written by `python -m benchmarks.frontier tables`. Event digits (`training.event_digits`), T = 8, batch 1, one thread of
{cpu}, ONNX Runtime {runtime}; means over up to {splits} splits. One test image is 0.28 points.

Accuracy is that of the deployed integers. Ours: native artifacts through `run`, neurons and Python included. ONNX
Runtime: int8 by its own static quantisation, neurons as nodes; *convolutions alone* is its int8 network without
neurons, whose time is less than any runtime with its kernels can take."""


@dataclass(frozen=True)
class Deployed:
    """A network over its splits."""

    side: str
    net: str
    pattern: str
    weight_type: str
    accuracy: float
    microseconds: float
    splits: int

    def __str__(self) -> str:
        return f"{self.accuracy:.1f}, {self.microseconds:.0f} µs"


def over_splits(points: Iterable[Point]) -> list[Deployed]:
    """Means of the splits of each network."""
    found: dict[tuple[str, str, str, str], list[Point]] = {}
    for point in points:
        found.setdefault((point.side, point.net, point.pattern, point.weight_type), []).append(point)
    return [
        Deployed(
            *key,
            statistics.mean(point.accuracy for point in same),
            statistics.mean(point.microseconds for point in same),
            len(same),
        )
        for key, same in found.items()
    ]


def frontier_of(networks: Iterable[Deployed]) -> list[Deployed]:
    """Those that no other beats in both, the quickest first."""
    best: list[Deployed] = []
    for network in sorted(networks, key=lambda n: (n.microseconds, -n.accuracy)):
        if not best or network.accuracy > best[-1].accuracy:
            best.append(network)
    return best


def quickest_at(ours: Sequence[Deployed], accuracy: float) -> Deployed | None:
    """The quickest of ours that is at least so accurate."""
    good = [network for network in ours if network.accuracy >= accuracy]
    return min(good, key=lambda n: n.microseconds, default=None)


def write_report(points: Sequence[Point], trained: Store, floats: Store, path: Path) -> str:
    """Write the tables.

    Args:
        points: what was measured.
        trained: networks of the frontier, in PyTorch.
        floats: the same networks trained in floats, where they are known.
        path: of the file.
    """
    text = "\n\n".join(_report(over_splits(points), trained, floats)) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return text


def _report(networks: list[Deployed], trained: Store, floats: Store) -> Iterator[str]:
    ours = [network for network in networks if network.side == OURS]
    splits = max((network.splits for network in networks), default=0)
    yield "# Accuracy against microseconds"
    yield ABOUT.format(cpu=f"{detect().name} ({platform.machine()})", runtime=onnxruntime.__version__, splits=splits)
    yield "## At the accuracy of a dense network"
    yield _matched(networks, ours)
    yield "## Trained in whole numbers, by pattern"
    yield from _by_pattern(ours)
    yield "## What whole numbers cost a training"
    yield (
        "Networks above against the same trained in floats (benchmarks/results/learning), on the same split, in\n"
        "PyTorch: mean ± standard error (networks)."
    )
    yield _cost_of_types(trained, floats)
    yield "![accuracy against microseconds](frontier.png)"


def _matched(networks: Sequence[Deployed], ours: Sequence[Deployed]) -> str:
    """For each peer, the quickest of ours that is as accurate."""
    rows = []
    for side in PEERS:
        for width in PEER_WIDTHS:
            peer = next((n for n in networks if (n.side, n.net) == (side, str(width))), None)
            if peer is not None:
                rows.append([f"{side}, {width} wide", str(peer), *_match(peer, networks, ours)])
    header = [
        "dense, ONNX Runtime",
        "points, time",
        "quickest of ours",
        "points, time",
        "×",
        "× its convolutions alone",
    ]
    return markdown(header, rows)


def _match(peer: Deployed, networks: Sequence[Deployed], ours: Sequence[Deployed]) -> tuple[str, str, str, str]:
    found = quickest_at(ours, peer.accuracy)
    if found is None:
        return NOTHING, NOTHING, NOTHING, NOTHING
    bare = next((n for n in networks if (n.side, n.net) == (CONVOLUTIONS, peer.net)), None)
    name = f"{found.net} wide, {found.pattern}, {found.weight_type}"
    times = peer.microseconds / found.microseconds
    mark = "" if times >= GOAL else " (below the goal)"
    return name, str(found), f"{times:.1f}{mark}", f"{bare.microseconds / found.microseconds:.1f}" if bare else NOTHING


def _cost_of_types(trained: Store, floats: Store) -> str:
    """Differences to trainings in floats by type of weights."""
    rows: list[list[str]] = []
    for kind in WEIGHT_TYPES:
        pairs = [(m, twin) for run, m in trained if weight_type_of(run) == kind and (twin := _twin(run, floats))]
        points = Summary.of(m.accuracy - twin.accuracy for m, twin in pairs)
        losses = Summary.of(m.loss - twin.loss for m, twin in pairs)
        rows.append([kind, difference_text(points), difference_text(losses, 3)])
    return markdown(("weights", "Δ points", "Δ cross-entropy"), rows)


def _twin(run: Run, floats: Store) -> Measured | None:
    """The result of the same training in floats."""
    options = {name: value for name, value in run.options if name != "weight_type"}
    return floats.of(replace(run, options=sorted_options(options))).get(run.split)


def _by_pattern(ours: Sequence[Deployed]) -> Iterator[str]:
    for width in sorted(WIDTHS):
        found = {(n.pattern, n.weight_type): n for n in ours if n.net == str(width)}
        if found:
            rows = [
                [pattern, *(str(found.get((pattern, kind), NOTHING)) for kind in WEIGHT_TYPES)] for pattern in PATTERNS
            ]
            yield markdown([f"{width} wide", *WEIGHT_TYPES], rows)
