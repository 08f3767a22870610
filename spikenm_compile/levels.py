"""Whole-numbered values: spikes, counts, quantised inputs."""

from __future__ import annotations

from dataclasses import dataclass

LARGEST_COUNT = 255
"""Counts above this do not fit a byte."""
SMALLEST_SIGNED, LARGEST_SIGNED = -128, 127
LARGEST_UNARY = 8
"""Counts above this take more bits in unary than a byte has."""


@dataclass(frozen=True, slots=True)
class Levels:
    """Values that are `scale` times a whole number in low..high. Spikes are Levels(0, 1, 1.0)."""

    low: int
    high: int
    scale: float = 1.0

    @property
    def is_binary(self) -> bool:
        """Whether one bit holds a value."""
        return self.low == 0 and self.high == 1

    @property
    def is_unary(self) -> bool:
        """Whether so few bits hold a value in unary that kernels store it as some spikes."""
        return self.low >= 0 and 0 < self.high <= LARGEST_UNARY

    @property
    def fits_a_byte(self) -> bool:
        """Whether uint8 or int8 holds every value."""
        if self.low >= 0:
            return self.high <= LARGEST_COUNT
        return self.low >= SMALLEST_SIGNED and self.high <= LARGEST_SIGNED

    def __str__(self) -> str:
        name = "spikes" if self.is_binary else f"{self.low}..{self.high}"
        return name if self.scale == 1.0 else f"{name} × {self.scale:.9g}"


SPIKES = Levels(0, 1)
