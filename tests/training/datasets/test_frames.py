from typing import Any, Literal

import numpy as np
import pytest
from event_files import random_events
from spikingjelly_readers import spikingjelly_reader

from spikenm_compile.errors import InputError
from spikenm_compile.training.datasets.frames import Frames, count_events, steps_of, to_events
from spikenm_compile.training.event_camera import EVENT, Events


def as_dict(events: Events) -> dict[str, Any]:
    return {key: events[name].astype(np.int64) for key, name in zip("txyp", ("t", "x", "y", "polarity"), strict=True)}


@pytest.mark.parametrize("num_steps", [1, 4, 7])
@pytest.mark.parametrize(("by", "split_by"), [("count", "number"), ("time", "time")])
def test_frames_of_a_fixed_number_are_those_of_spikingjelly(
    by: Literal["count", "time"], split_by: str, num_steps: int
) -> None:
    events = random_events(500, 20)
    expected = spikingjelly_reader("utils").integrate_events_by_fixed_frames_number(
        as_dict(events), split_by, num_steps, 20, 20
    )
    actual = count_events(events, Frames(num_steps, by), 20, 20)
    assert actual.dtype == np.float32
    assert np.array_equal(actual, expected)
    assert actual.sum() == 500


def test_frames_of_a_fixed_length_are_those_of_spikingjelly_and_later_events_are_left_out() -> None:
    events = random_events(500, 20)
    expected = spikingjelly_reader("utils").integrate_events_by_fixed_duration(as_dict(events), 60_000, 20, 20)
    actual = count_events(events, Frames(5, "time", 60_000), 20, 20)
    assert len(expected) > 5
    assert np.array_equal(actual, expected[:5])


def test_steps_without_events_are_frames_of_zeros() -> None:
    assert count_events(np.empty(0, EVENT), Frames(3, "time"), 4, 4).shape == (3, 2, 4, 4)
    assert count_events(np.empty(0, EVENT), Frames(3, "count"), 4, 4).sum() == 0
    few = to_events([1, 2], [0, 0], [0, 1], np.array([5, 900]))
    assert steps_of(few, Frames(4, "time")).tolist() == [0, 3]
    assert steps_of(few, Frames(4, "count")).tolist() == [0, 1]
    at_once = to_events([1, 2], [0, 0], [0, 1], np.array([7, 7]))
    assert steps_of(at_once, Frames(4, "time")).tolist() == [0, 0]


def test_events_are_put_in_order() -> None:
    events = to_events([1, 2, 3], [0, 0, 0], [1, 1, 0], np.array([30, 10, 30]))
    assert events["t"].tolist() == [10, 30, 30]
    assert events["x"].tolist() == [2, 1, 3]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((0,), "num_steps 0, step_us None; both are 1 or more"),
        ((4, "time", 0), "num_steps 4, step_us 0; both are 1 or more"),
        ((4, "count", 10), "by count have step_us 10; only frames by time have it"),
        ((4, "number"), "cut by 'number'; count and time are supported"),
    ],
)
def test_impossible_frames_are_refused(arguments: tuple[Any, ...], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        Frames(*arguments)
