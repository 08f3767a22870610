"""Which instructions a CPU has, as far as kernels are written differently for them."""

from __future__ import annotations

from dataclasses import dataclass

from spikenm_compile.lowering.byte_shuffle import ByteShuffle


@dataclass(frozen=True)
class Instructions:
    """Without those for bits, shifts and tables do the same; without `shuffle` there are no lookup tables."""

    has_pext: bool = False
    """BMI2: the bits under a mask, moved together."""
    has_compress: bool = False
    """AVX-512: the lanes under a mask, moved together."""
    shuffle: ByteShuffle | None = None
    """What lookup tables are read by."""


PORTABLE = Instructions()
"""None of them."""
