"""Digits of partial sums, and what lookup tables cost."""

from __future__ import annotations

import pytest
from layer_call_examples import call

from spikenm_compile.costs.amounts import LOOKUP_TABLES, Caches, amounts_of
from spikenm_compile.costs.table_format import INPUTS, INT4, INT7, INT8, TableFormat, table_classes, table_format_of

CACHES = Caches(2**15, 2**19)


@pytest.mark.parametrize("number_format", [INT8, INT7, INT4])
def test_digits_hold_every_sum_and_bytes_and_words_all_that_is_added(number_format: TableFormat) -> None:
    f = number_format
    most = INPUTS * f.largest
    assert most < f.base**f.digits
    digits = {digit for total in range(most + 1) for digit in divmod(total, f.base)}
    assert max(digits) == f.largest_digit
    assert 2 * f.bytes_at_once * f.largest_digit < 2**8
    assert f.most_lookups * f.largest_digit < 2**16 <= (f.most_lookups + 1) * f.largest_digit
    assert table_format_of(f.largest) is f


def test_slabs_that_are_unequal_or_too_many_share_tables() -> None:
    assert [table_classes(*shape) for shape in ((24, 8), (20, 8), (64, 32), (64, 1))] == [8, 1, 1, 1]


def test_time_goes_with_the_weights_that_slabs_read() -> None:
    def looked_up(pattern: str, **changes: object) -> float:
        return amounts_of(call(pattern, **changes), LOOKUP_TABLES, 128, CACHES).looked_up

    assert looked_up("2:4") == looked_up("2:4", density=0.5) == 8 * looked_up("1:8@stagger")
    assert looked_up("2:4") == 2 * looked_up("2:4", largest_weight=7)
    # 9 taps · 8 bytes · 2 halves · 2 digits, for 128 outputs at 4 · 64 positions
    assert looked_up("2:4") == 9 * 8 * 2 * 2 * 128 * 4
