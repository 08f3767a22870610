"""The least of many rounds, on a clock that the calls set."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from spikenm_compile.tuning.stopwatch import FEWEST_ROUNDS, MOST_ROUNDS, least_times


class Call:
    """Takes the next of its times on each input."""

    def __init__(self, now: list[int], times: dict[int, Iterator[int]]) -> None:
        self.now, self.times, self.index, self.count = now, times, -1, 0

    def set_input(self, index: int) -> None:
        self.index = index
        self.now[0] += 10**6  # what is not timed

    def __call__(self) -> None:
        self.count += 1
        self.now[0] += next(self.times[self.index])


def disturbed(least: int) -> Iterator[int]:
    yield least + 7000
    yield least
    while True:
        yield least + 500


def test_the_least_of_each_input_counts() -> None:
    now = [0]
    calls = [Call(now, {0: disturbed(1000), 1: disturbed(3000)}), Call(now, {0: disturbed(5000), 1: disturbed(5000)})]
    assert least_times(calls, 2, lambda: now[0], enough=0) == [2.0, 5.0]


@pytest.mark.parametrize(("enough", "rounds"), [(0.0, FEWEST_ROUNDS), (1e9, MOST_ROUNDS)])
def test_rounds_end(enough: float, rounds: int) -> None:
    now = [0]
    call = Call(now, {0: disturbed(10)})
    least_times([call], 1, lambda: now[0], enough=enough)
    assert call.count == rounds
