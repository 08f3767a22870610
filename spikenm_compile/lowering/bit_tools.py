"""Which instructions on bits a CPU has, as far as kernels are written differently for them."""

from __future__ import annotations

from dataclasses import dataclass

from spikenm_compile.lowering.byte_shuffle import ByteShuffle


@dataclass(frozen=True)
class BitTools:
    """Instructions; a CPU without those for bits has the same done by shifts and tables."""

    has_pext: bool = False
    """BMI2: the bits under a mask, moved together."""
    has_compress: bool = False
    """AVX-512: the lanes under a mask, moved together."""
    shuffle: ByteShuffle | None = None
    """What lookup tables are read by."""


PORTABLE = BitTools()
"""None of them."""
