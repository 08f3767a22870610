import pytest

from spikenm_compile.errors import InputError
from spikenm_compile.learning.schedule import RampLaw, Schedule, cooling
from spikenm_compile.pattern import Pattern


def test_cooling_is_linear_to_zero_where_the_tail_begins() -> None:
    assert cooling(0.0, 0.3) == 1.0
    assert cooling(0.35, 0.3) == pytest.approx(0.5)
    assert cooling(0.7, 0.3) == pytest.approx(0.0)
    assert cooling(0.9, 0.3) == 0.0


def test_the_cosine_cools_slowly_quickly_slowly() -> None:
    assert [cooling(p, 0.5, "cosine") for p in (0.0, 0.125, 0.25, 0.375, 0.5, 0.9)] == pytest.approx(
        [1.0, 0.8535534, 0.5, 0.1464466, 0.0, 0.0]
    )
    schedule = Schedule(total_steps=4, noise=2.0, eid=1.0, tail=0.0, cooling_law="cosine")
    assert (schedule.sigma(1), schedule.eid_weight(2)) == pytest.approx((1.7071068, 0.5))


def test_halving_keeps_each_power_equally_long_and_n_from_the_end_of_the_ramp() -> None:
    schedule = Schedule(total_steps=10, progressive=0.6)
    assert [schedule.n_at(s, Pattern(1, 8)) for s in range(10)] == [8, 8, 4, 4, 2, 2, 1, 1, 1, 1]
    assert [schedule.n_at(s, Pattern(3, 16)) for s in range(10)] == [16, 16, 8, 8, 4, 4, 3, 3, 3, 3]
    half = Schedule(total_steps=10, progressive=0.6, start_density=0.5)
    assert [half.n_at(s, Pattern(1, 16)) for s in range(10)] == [8, 8, 4, 4, 2, 2, 1, 1, 1, 1]
    assert [half.n_at(s, Pattern(2, 4)) for s in range(10)] == [2] * 10


def test_cubic_falls_quickly_first_as_in_gradual_pruning() -> None:
    schedule = Schedule(total_steps=10, progressive=0.5, ramp_law="cubic")
    # 1 + 15·(1 - p/r)³: 16, 8.68, 4.24, 1.96, 1.12
    assert [schedule.n_at(s, Pattern(1, 16)) for s in range(7)] == [16, 9, 4, 2, 1, 1, 1]


@pytest.mark.parametrize("law", ["halving", "cubic"])
@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7])
def test_the_number_kept_never_rises_and_is_n_at_every_hard_step(law: RampLaw, share: float) -> None:
    schedule = Schedule(total_steps=97, progressive=share, ramp_law=law)
    for pattern in (Pattern(2, 4), Pattern(1, 4), Pattern(5, 7), Pattern(1, 256)):
        kept = [schedule.n_at(s, pattern) for s in range(200)]
        assert kept == sorted(kept, reverse=True)
        assert kept[0] == pattern.m
        assert all(n == pattern.n for s, n in enumerate(kept) if s >= share * 97)


def test_n_is_kept_at_once_without_ramp_or_length() -> None:
    assert {Schedule(total_steps=9).n_at(s, Pattern(2, 4)) for s in range(20)} == {2}
    assert Schedule(progressive=0.5).n_at(0, Pattern(2, 4)) == 2


def test_the_report_tells_of_the_ramp() -> None:
    text = str(Schedule(total_steps=264, progressive=0.5))
    assert text.endswith("\nthe weights kept fall from all of each group to N over 132 steps (halving)")
    assert "from 50% of each group" in str(Schedule(total_steps=264, progressive=0.5, start_density=0.5))


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
    with pytest.raises(InputError, match=r"progressive=0\.8 leaves no step at N.*tail of 0\.3.*at most 0\.7"):
        Schedule(progressive=0.8)
    with pytest.raises(InputError, match=r"progressive=1\.0 leaves no step at N"):
        Schedule(progressive=1.0, tail=0.0)
    with pytest.raises(InputError, match=r"start_density=0\.0 is not a share of M"):
        Schedule(start_density=0.0)
    with pytest.raises(InputError, match="ramp_law='square' is not a law; known are halving, cubic"):
        Schedule(ramp_law="square")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="cooling_law='cubic' is not a law; known are linear, cosine"):
        Schedule(cooling_law="cubic")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"logit_rate=0\.0 moves no logits"):
        Schedule(logit_rate=0.0)
