from __future__ import annotations

import pytest

from spikenm_compile.timing import BURST, Latency, measure, summarize


def test_contenders_take_turns_in_bursts_with_another_input_each_call() -> None:
    calls: list[tuple[str, int]] = []
    measure({"a": lambda i: calls.append(("a", i)), "b": lambda i: calls.append(("b", i))}, rounds=2)
    expected = [(name, r * BURST + j) for r in range(2) for name in ("a", "b") for j in range(BURST)]
    assert calls == expected


def test_the_first_call_of_a_burst_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10**9, 5000))
    monkeypatch.setattr("time.perf_counter_ns", lambda: next(clock))
    found = measure({"a": lambda _: None}, rounds=3)
    assert found == {"a": Latency(5.0, 5.0, 5.0)}
    assert next(clock) == 5000 * 2 * 3 * (BURST - 1)


def test_summary_by_hand() -> None:
    found = summarize([float(i) for i in range(1, 20)])
    assert found == Latency(median=10.0, low=2.0, high=18.0)
    assert str(found) == "10 µs (2-18)"


def test_summary_of_one_value() -> None:
    assert summarize([3.0]) == Latency(3.0, 3.0, 3.0)


def test_an_outlier_does_not_move_the_median() -> None:
    assert summarize([1.0] * 30 + [1000.0]).median == 1.0
