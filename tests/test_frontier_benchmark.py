"""The benchmark of accuracy against microseconds: its networks, what it keeps, the arithmetic of its tables."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.frontier_measure import OURS, Contender, Point, measure, read_points, take_turns, write_points
from benchmarks.frontier_nets import name_of, peer, planned, train, whole
from benchmarks.frontier_peers import bare_convolutions
from benchmarks.frontier_tables import frontier_of, over_splits, quickest_at, write_report
from benchmarks.learning_runs import Measured, Run, sorted_options
from benchmarks.learning_store import Store


def point(side: str, net: str, accuracy: float, microseconds: float, split: int = 0, pattern: str = "2:4") -> Point:
    return Point("n", side, net, pattern, "int4" if side == OURS else "int8", split, accuracy, microseconds)


def short(run: Run) -> Run:
    """A training of three steps."""
    return replace(run, split=0, options=sorted_options({**dict(run.options), "steps": 3}))


def test_every_network_has_a_name_of_its_own() -> None:
    runs = list(planned([0, 1]))
    assert len({name_of(run) for run in runs}) == len(set(runs)) == len(runs)
    assert name_of(replace(whole(64, "1:4@stagger", "int7"), split=1)) == "w64-1-4-stagger-int7-s1"


def test_a_network_is_trained_once_and_measured_as_it_is_deployed(tmp_path: Path) -> None:
    run, store = short(whole(8, "2:4", "int4")), Store(tmp_path / "results")
    train([run], store, tmp_path)
    kept = (tmp_path / f"{name_of(run)}.safetensors").stat().st_mtime_ns
    assert run in Store(tmp_path / "results")
    train([run], Store(tmp_path / "results"), tmp_path)
    assert (tmp_path / f"{name_of(run)}.safetensors").stat().st_mtime_ns == kept
    (found,) = measure([run, replace(peer(8), split=0)], tmp_path, rounds=1)
    assert found.side == OURS
    assert found.microseconds > 0
    assert found.accuracy == pytest.approx(store.of(run)[0].accuracy, abs=3.0)
    write_points([found], tmp_path / "points.json")
    assert read_points(tmp_path / "points.json") == [
        replace(found, accuracy=round(found.accuracy, 2), microseconds=round(found.microseconds, 2))
    ]


def test_contenders_take_turns_over_all_samples_and_the_first_round_does_not_count() -> None:
    calls: list[tuple[str, float]] = []
    contenders = [
        Contender(lambda us: point(OURS, "8", 0.0, us), lambda sample, n=name: calls.append((n, float(sample[0]))), str)  # type: ignore[misc]
        for name in "ab"
    ]
    times = take_turns(contenders, np.arange(2, dtype=np.float32), rounds=2)
    assert calls == [("a", 0.0), ("a", 1.0), ("b", 0.0), ("b", 1.0)] * 3
    assert all(0 < time < 1e6 for time in times)


def test_the_quickest_that_is_as_accurate() -> None:
    points = [point(OURS, "16", 80.0, 10.0), point(OURS, "16", 90.0, 20.0, 1), point(OURS, "32", 90.0, 30.0)]
    networks = over_splits([*points, point(OURS, "64", 84.0, 40.0)])
    first = networks[0]
    assert (first.net, first.accuracy, first.microseconds, first.splits) == ("16", 85.0, 15.0, 2)
    assert [n.net for n in frontier_of(networks)] == ["16", "32"]
    found = quickest_at(networks, 86.0)
    assert found is not None
    assert found.net == "32"
    assert quickest_at(networks, 91.0) is None


def test_the_report_marks_what_misses_the_goal(tmp_path: Path) -> None:
    dense = [point("int8", "8", 80.0, 100.0, pattern="dense"), point("int8", "16", 85.0, 50.0, pattern="dense")]
    bare = point("convolutions", "8", 80.0, 24.0, pattern="dense")
    trained, floats = Store(tmp_path / "trained"), Store(tmp_path / "floats")
    for width, gain in ((32, 1.0), (64, 3.0)):
        run, twin = (replace(run, split=0) for run in (whole(width, "dense", "int4"), peer(width)))
        trained.remember(run, Measured(80.0 + gain, 0.5, 0.1, 1.0))
        floats.remember(twin, Measured(80.0, 0.6, 0.1, 1.0))
    points = [*dense, bare, point(OURS, "16", 88.0, 20.0)]
    text = write_report(points, trained, floats, tmp_path / "README.md")
    assert "| int4 | +2.0 ± 1.0 (2) | -0.100 ± 0.000 (2) |" in text
    assert "| int8, 8 wide | 80.0, 100 µs | 16 wide, 2:4, int4 | 88.0, 20 µs | 5.0 | 1.2 |" in text
    assert "| int8, 16 wide | 85.0, 50 µs | 16 wide, 2:4, int4 | 88.0, 20 µs | 2.5 (below the goal) | – |" in text


def test_the_convolutions_alone_have_the_sizes_of_the_network() -> None:
    session = bare_convolutions((4, 8, 8, 8))
    session.run()
    assert session.result().shape == (10,)
