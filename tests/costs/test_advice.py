"""The kernel that is said to be best, and what is said of it."""

from __future__ import annotations

from dataclasses import replace

from layer_call_examples import CALL, call

from spikenm_compile.costs.advice import Advice, Advisor, format_time
from spikenm_compile.costs.amounts import DENSE_ROWS, EVENT_ROWS, SHARED_ROWS, STAGGERED_ROWS, Amounts, Caches
from spikenm_compile.costs.cpu_costs import CpuCosts
from spikenm_compile.costs.trials import Kernel, Machine, Timing, Trial, key_of

ROWS = (EVENT_ROWS,)
FAMILIES = (STAGGERED_ROWS, EVENT_ROWS, DENSE_ROWS)
COSTS = CpuCosts(128, Caches(2**15, 2**20), Amounts(calls=0, bytes_of_8=0.02, multiplied=0.002, sums=20))
MACHINE = Machine("x86-64-v4", "a CPU", ("maker 1",))


def test_the_family_that_is_predicted_to_be_quickest() -> None:
    few, many = (Advisor(COSTS).advise(call(density=d), (EVENT_ROWS, DENSE_ROWS)) for d in (0.05, 0.5))
    assert few is not None
    assert (few.family, few.tile_width) == (EVENT_ROWS, None)
    assert few.reason == "event rows: 21 µs predicted at 5 % spikes, dense rows 38 µs"
    assert few.microseconds == COSTS.microseconds(call(density=0.05), EVENT_ROWS)
    assert many is not None
    assert many.reason == "dense rows: 38 µs predicted at 50 % spikes, event rows 164 µs"


def test_nothing_is_said_where_nothing_is_known() -> None:
    assert Advisor().advise(CALL, FAMILIES) is None
    assert Advisor().savings(CALL, ROWS) == ""


def trials(*times: tuple[str, int, float, float], **changes: float) -> dict[str, list[Trial]]:
    key = key_of(replace(CALL, **changes), MACHINE)  # type: ignore[arg-type]
    found = [Trial(key, Kernel(family, width), Timing(ratio, time)) for family, width, ratio, time in times]
    return {key: [*found, Trial(key, Kernel(EVENT_ROWS, 8), None, "killed")]}


SAVING = (("1:4@stagger", STAGGERED_ROWS), ("2:4", EVENT_ROWS))
MEASURED = trials((EVENT_ROWS, 128, 1.0, 40), (EVENT_ROWS, 64, 0.8, 44), (DENSE_ROWS, 128, 3.0, 130))


def test_what_was_measured_goes_before_what_is_predicted() -> None:
    advice = Advisor(COSTS, MACHINE, MEASURED).advise(CALL, FAMILIES)
    reason = "event rows in tiles of 64: 44 µs measured at 12 % spikes, dense rows 130 µs"
    assert advice == Advice(EVENT_ROWS, 64, 44, reason)  # the best by ratio, not by the time of another day


def test_a_family_that_does_not_take_the_layer_is_not_chosen() -> None:
    advice = Advisor(COSTS, MACHINE, MEASURED).advise(CALL, (DENSE_ROWS,))
    assert advice is not None
    assert (advice.family, advice.tile_width) == (DENSE_ROWS, 128)


def test_trials_of_another_machine_or_density_do_not_count() -> None:
    other = Advisor(None, replace(MACHINE, versions=("maker 2",)), MEASURED)
    assert other.advise(CALL, FAMILIES) is None
    assert Advisor(None, MACHINE, MEASURED).advise(replace(CALL, density=0.3), FAMILIES) is None
    assert Advisor(None, MACHINE, MEASURED).advise(replace(CALL, density=0.13), FAMILIES) is not None


def test_patterns_that_would_save_time_are_named() -> None:
    wide = call(outputs=512)
    staggered, now = (COSTS.microseconds(call(p, outputs=512), f) for p, f in SAVING)
    assert f"1:4@stagger here would save {100 * (1 - staggered / now):.0f} %" in Advisor(COSTS).savings(wide, ROWS)
    named = Advisor(COSTS).savings(wide, ROWS).split(", ")
    assert [text.split()[0] for text in named] == ["2:4@stagger", "1:4@stagger", "1:8@stagger", "64:2:4", "64:1:8"]
    shared = COSTS.microseconds(call("64:1:8", outputs=512), SHARED_ROWS)
    assert f"64:1:8 here would save {100 * (1 - shared / now):.0f} %" in named
    assert Advisor(COSTS).savings(call("1:8@stagger", outputs=512), FAMILIES) == ""


def test_savings_are_of_the_best_kernel_that_the_layer_has() -> None:
    wide = call(outputs=512, density=0.4)
    then = COSTS.microseconds(call("1:8@stagger", outputs=512, density=0.4), STAGGERED_ROWS)
    now = COSTS.microseconds(wide, DENSE_ROWS)
    assert then < 0.9 * now
    assert now < COSTS.microseconds(wide, EVENT_ROWS)
    named = Advisor(COSTS).savings(wide, (EVENT_ROWS, DENSE_ROWS))
    assert f"1:8@stagger here would save {100 * (1 - then / now):.0f} %" in named


def test_patterns_that_a_layer_cannot_have_are_not_named() -> None:
    assert Advisor(COSTS).savings(call(channels=3), ROWS) == ""
    assert Advisor(COSTS).savings(call(groups=2), ROWS) == ""
    assert Advisor(COSTS).savings(call(is_binary=False), ROWS) == ""


def test_short_times_have_a_decimal() -> None:
    assert [format_time(t) for t in (0.31, 9.94, 10.2, 1234.5)] == ["0.3 µs", "9.9 µs", "10 µs", "1234 µs"]
