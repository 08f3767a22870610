"""A CPU's instruction that looks up many bytes at once, each 16 of them in a table of 16 bytes of their own."""

from __future__ import annotations

from dataclasses import dataclass

TABLE = 16
"""Bytes of a table."""
HALF_TABLE = 8
"""Lanes of an instruction that takes a table in two vectors."""
MOST_GROUPS = 2
"""Groups of positions whose sums are worked on together."""


@dataclass(frozen=True)
class ByteShuffle:
    """The instruction, by its name in LLVM, and what decides how many sums are worked on together.

    A vector has the same positions, a group of them, for each of `side` outputs. A load brings the tables of so many
    outputs: to repeat one table in all of a vector would take Zen 4 as long as to look bytes up in it.
    """

    intrinsic: str
    lanes: int
    """Bytes that it looks up."""
    registers: int
    """Vector registers of that size."""
    near_bytes: int
    """Of tables that stay in the first cache."""

    @property
    def group(self) -> int:
        """Positions of a vector."""
        return min(self.lanes, TABLE)

    @property
    def side(self) -> int:
        """Outputs of a vector."""
        return self.lanes // self.group

    @property
    def sums(self) -> int:
        """Vectors of sums of bytes: with those of words, of which each has two, they take most registers."""
        return self.registers // 4

    def tile_width(self, digits: int, output_bytes: int) -> int:
        """Outputs of a tile, with tables of that size each.

        The sums of most fit the registers for one group of positions; fewer outputs, at more positions, need fewer
        tables at a time.
        """
        vectors = max(1, self.sums // digits)
        while (
            vectors * self.side * output_bytes > self.near_bytes
            and self.groups(vectors * self.side, digits) < MOST_GROUPS
            and vectors > 1
        ):
            vectors //= 2
        return vectors * self.side

    def groups(self, padded_width: int, digits: int) -> int:
        """Groups of positions whose sums fit the registers, for a tile of that many outputs."""
        return min(MOST_GROUPS, max(1, self.sums // (padded_width // self.side * digits)))
