import pytest

from spikenm_compile.errors import InputError
from spikenm_compile.learning.schedule import Schedule, cooling


def test_cooling_is_linear_to_zero_where_the_tail_begins() -> None:
    assert cooling(0.0, 0.3) == 1.0
    assert cooling(0.35, 0.3) == pytest.approx(0.5)
    assert cooling(0.7, 0.3) == pytest.approx(0.0)
    assert cooling(0.9, 0.3) == 0.0


def test_values_over_a_training_of_known_length() -> None:
    schedule = Schedule(total_steps=100, noise=0.2, eid=0.4, tail=0.5)
    assert [schedule.sigma(s) for s in (0, 25, 50, 99)] == pytest.approx([0.2, 0.1, 0.0, 0.0])
    assert [schedule.eid_weight(s) for s in (0, 25, 50, 99)] == pytest.approx([0.4, 0.2, 0.0, 0.0])
    assert [schedule.is_frozen(s) for s in (0, 49, 50, 1000)] == [False, False, True, True]


def test_defaults_of_the_method() -> None:
    schedule = Schedule(total_steps=264)
    assert (schedule.sigma(0), schedule.eid_weight(0)) == (0.1, 0.1)
    assert not schedule.is_frozen(184)
    assert schedule.is_frozen(185)
    assert str(schedule) == "mask noise 0.1 cools down over 185 of 264 steps; the rest is frozen"


def test_unknown_length_never_cools_or_freezes_and_says_so() -> None:
    schedule = Schedule()
    assert schedule.sigma(10**6) == schedule.noise
    assert schedule.eid_weight(10**6) == schedule.eid
    assert not schedule.is_frozen(10**6)
    assert "give total_steps" in str(schedule)


def test_impossible_schedules_are_refused() -> None:
    with pytest.raises(InputError, match="total_steps=0 is not a length"):
        Schedule(total_steps=0)
    with pytest.raises(InputError, match=r"tail=1\.0 leaves no mask search"):
        Schedule(tail=1.0)
    with pytest.raises(InputError, match=r"noise=-1\.0 and eid=0\.1: both must be 0"):
        Schedule(noise=-1.0)
