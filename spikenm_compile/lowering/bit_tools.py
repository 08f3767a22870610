"""Which instructions on bits a CPU has, as far as kernels are written differently for them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BitTools:
    """Instructions of x86-64; a CPU without them has the same done by shifts and tables."""

    has_pext: bool = False
    """BMI2: the bits under a mask, moved together."""
    has_compress: bool = False
    """AVX-512: the lanes under a mask, moved together."""


PORTABLE = BitTools()
"""None of them."""
