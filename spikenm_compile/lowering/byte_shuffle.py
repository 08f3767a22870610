"""A CPU's instruction that looks up many bytes at once in a table of 16."""

from __future__ import annotations

from dataclasses import dataclass

HALF_TABLE = 8
"""Lanes of an instruction that takes a table in two vectors."""


@dataclass(frozen=True)
class ByteShuffle:
    """The instruction, by its name in LLVM, and what decides how many sums are worked on together."""

    intrinsic: str
    lanes: int
    """Bytes that it looks up."""
    registers: int
    """Vector registers of that size."""

    @property
    def tile_width(self) -> int:
        """Outputs of a tile for tables of one digit: their sums, three vectors each, take most registers."""
        return self.registers // 4
