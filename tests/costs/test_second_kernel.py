"""When a layer gets a second kernel."""

from __future__ import annotations

from layer_call_examples import call

from spikenm_compile.costs.amounts import DENSE_ROWS, EVENT_ROWS, Amounts, Caches
from spikenm_compile.costs.cpu_costs import CpuCosts
from spikenm_compile.costs.second_kernel import second_kernel

FAMILIES = (EVENT_ROWS, DENSE_ROWS)
COSTS = CpuCosts(128, Caches(2**15, 2**20), Amounts(calls=0, bytes_of_8=0.02, multiplied=0.002, sums=20))


def equal_times() -> float:
    """Density at which both families take 38 µs."""
    found = second_kernel(COSTS, call(density=0.1), FAMILIES, EVENT_ROWS)
    assert found is not None
    return found.density


def test_a_denser_call_gets_the_kernel_that_is_quicker_there() -> None:
    found = second_kernel(COSTS, call(density=0.1), FAMILIES, EVENT_ROWS)
    assert found is not None
    assert (found.family, found.is_denser) == (DENSE_ROWS, True)
    times = [COSTS.microseconds(call(density=found.density), family) for family in FAMILIES]
    assert abs(times[0] / times[1] - 1) < 1e-4
    far = call(density=0.2)
    assert found.saves == 1 - COSTS.microseconds(far, DENSE_ROWS) / COSTS.microseconds(far, EVENT_ROWS)


def test_a_sparser_call_gets_the_kernel_that_is_quicker_there() -> None:
    found = second_kernel(COSTS, call(density=0.15), FAMILIES, DENSE_ROWS)
    assert found is not None
    assert (found.family, found.is_denser) == (EVENT_ROWS, False)
    assert abs(found.density - equal_times()) < 1e-4


def test_one_kernel_is_enough() -> None:
    assert second_kernel(COSTS, call(density=0.02), FAMILIES, EVENT_ROWS) is None  # half to double: the same is best
    little = equal_times() / 2 * 1.03
    assert second_kernel(COSTS, call(density=little), FAMILIES, EVENT_ROWS) is None  # it would save less than a tenth
    assert second_kernel(COSTS, call(density=0.1), (EVENT_ROWS,), EVENT_ROWS) is None
    assert second_kernel(COSTS, call(density=0.1), FAMILIES, DENSE_ROWS) is None  # measured, against the prediction
    assert second_kernel(COSTS, call(density=0.1, is_binary=False), FAMILIES, EVENT_ROWS) is None
