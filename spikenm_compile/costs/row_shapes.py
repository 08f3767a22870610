"""Shapes of the weight rows that event-driven kernels add, as far as their time depends on them."""

from __future__ import annotations

import math

from spikenm_compile.pattern import Pattern

ROW_PADDING = 16
"""Fewest bytes of a weight row, the smallest vector of all targets."""
FEWEST_NIBBLES = 64
"""Columns from which on a row of int4 is quicker than one of int7: few bytes do not pay for taking nibbles apart."""
WORTH_A_PASS = 64
"""Outputs whose rows pay for a pass over the events: with fewer, the branch miss at the list's end costs more."""


def weight_bits(largest: int, width: int) -> int:
    """Bits of the quickest rows of that many columns for weights of that magnitude: 4, 7 or 8."""
    if largest <= 7 and width >= FEWEST_NIBBLES:
        return 4
    return 7 if largest <= 63 else 8


def padded_row(width: int, bits: int) -> int:
    """Bytes of a row of so many columns; two columns of 4 bits share one.

    A power of two: LLVM takes vectors of other sizes apart into so many pieces that AVX-512 adds rows of 96 bytes seven
    times as slowly as those of 128.
    """
    num_bytes = -(-width // 2) if bits == 4 else width
    return max(ROW_PADDING, power_of_two(num_bytes, at_least=True))


def power_of_two(number: int, *, at_least: bool = False) -> int:
    """The largest power of two that is no larger than a positive number; with `at_least` the smallest no smaller."""
    return 1 << (number - 1).bit_length() if at_least else 1 << number.bit_length() - 1


def input_classes(outputs: int, slabs: int, tile_width: int) -> int:
    """Classes to part the inputs of a staggered layer into: fewer than slabs where these are narrow, 2 at least."""
    divisors = [k for k in range(2, slabs + 1) if slabs % k == 0]
    wide = [k for k in divisors if outputs // k >= min(WORTH_A_PASS, tile_width)]
    chosen = max(wide, default=divisors[0])
    return chosen if outputs // chosen <= tile_width else slabs


def slab_width(outputs: int, shared: int) -> int:
    """Outputs that a list of rows is made for, where `shared` have a mask in common: slabs that fill bytes of spikes.

    Narrow slabs are joined although they keep more together: a row of a few bytes does not pay for the list.
    """
    whole_bytes = math.lcm(shared, 8)
    return min(whole_bytes * max(1, WORTH_A_PASS // whole_bytes), outputs)


def kept_share(outputs: int, pattern: Pattern) -> float:
    """Share of the inputs that such a list takes, where the masks of joined slabs are independent."""
    return 1 - math.pow(1 - pattern.density, slab_width(outputs, pattern.v) / pattern.v)


def tile_for(tile_width: int, num_states: int) -> int:
    """Outputs of a tile, a power of two: the more states a neuron has, the fewer outputs fit the registers."""
    return power_of_two(max(8, tile_width // max(1, num_states)))
