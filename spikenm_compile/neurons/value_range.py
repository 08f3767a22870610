"""What values an expression can take, whatever the input: proves that an output is spikes or counts.

A range is [low, high], and whether only whole numbers occur. A value with an infinite bound may also be NaN, one with
finite bounds never is; this is why max(a, b) is bounded only where b is: max(NaN, 0) = 0 but max(0, NaN) = NaN.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

INFINITY = math.inf
LARGEST_WHOLE = 2.0**24
"""Whole numbers up to here are exact in float32."""


@dataclass(frozen=True, slots=True)
class Range:
    """Values in [low, high]."""

    low: float
    high: float
    is_whole: bool = False

    @property
    def is_bounded(self) -> bool:
        """Whether it is neither infinite nor NaN."""
        return -INFINITY < self.low <= self.high < INFINITY

    def __str__(self) -> str:
        return f"{'whole' if self.is_whole else 'real'} numbers in {self.low:.9g}..{self.high:.9g}"


ANY = Range(-INFINITY, INFINITY)


class RangeAlgebra:
    """Operations on ranges; float32 rounding can leave a range of real numbers by a last bit, never one of whole."""

    def constant(self, value: float) -> Range:
        """One number."""
        return Range(value, value, value.is_integer()) if math.isfinite(value) else ANY

    def negative(self, a: Range) -> Range:
        """Mirrored."""
        return Range(-a.high, -a.low, a.is_whole)

    def add(self, a: Range, b: Range) -> Range:
        """Ends add up."""
        return self._of_ends([a.low + b.low, a.high + b.high], a, b)

    def subtract(self, a: Range, b: Range) -> Range:
        """Largest minus smallest."""
        return self._of_ends([a.low - b.high, a.high - b.low], a, b)

    def multiply(self, a: Range, b: Range) -> Range:
        """One of the four products of ends."""
        return self._of_ends([p * q for p in (a.low, a.high) for q in (b.low, b.high)], a, b)

    def divide(self, _a: Range, _b: Range) -> Range:
        """Anything."""
        return ANY

    def above(self, _a: Range, _b: Range) -> Range:
        """0 or 1."""
        return Range(0.0, 1.0, True)

    at_least = equal = above

    def where(self, _c: Range, a: Range, b: Range) -> Range:
        """One or the other."""
        return Range(min(a.low, b.low), max(a.high, b.high), a.is_whole and b.is_whole)

    def maximum(self, a: Range, b: Range) -> Range:
        """B where a is NaN."""
        whole = a.is_whole and b.is_whole
        return Range(max(a.low, b.low), max(a.high, b.high), whole) if b.is_bounded else ANY

    def minimum(self, a: Range, b: Range) -> Range:
        """B where a is NaN."""
        whole = a.is_whole and b.is_whole
        return Range(min(a.low, b.low), min(a.high, b.high), whole) if b.is_bounded else ANY

    def round(self, a: Range) -> Range:
        """Whole numbers."""
        return Range(float(round(a.low)), float(round(a.high)), True) if a.is_bounded else Range(a.low, a.high, True)

    def trunc(self, a: Range) -> Range:
        """Whole numbers."""
        return Range(float(int(a.low)), float(int(a.high)), True) if a.is_bounded else Range(a.low, a.high, True)

    def absolute(self, a: Range) -> Range:
        """From 0 where the sign changes inside."""
        least = 0.0 if a.low <= 0.0 <= a.high else min(abs(a.low), abs(a.high))
        return Range(least, max(abs(a.low), abs(a.high)), a.is_whole)

    def exp(self, _a: Range) -> Range:
        """Anything."""
        return ANY

    sigmoid = log = exp

    def _of_ends(self, ends: list[float], a: Range, b: Range) -> Range:
        if not (a.is_bounded and b.is_bounded) or max(map(abs, ends)) > LARGEST_WHOLE:
            return ANY
        return Range(min(ends), max(ends), a.is_whole and b.is_whole)
