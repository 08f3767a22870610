"""Where the tables of a layer lie, and which tile of outputs reads which.

    tables    [slab][tile][entry][half][outputs / side][digit][side][16] bytes
    offsets   [slab][entry] int32: where the plane of an entry begins
    least     [output] int32: what its sums count from, the sum of its negative weights

An entry is an index byte at a tap, of which each half is the index of a table. `side` outputs share a vector
(lowering.byte_shuffle); where those of a slab do not divide by it, there are outputs that nobody reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from spikenm_compile.costs.table_format import ENTRIES, TableFormat
from spikenm_compile.lowering.byte_shuffle import ByteShuffle
from spikenm_compile.lowering.kernels.index_planes import IndexPlanes
from spikenm_compile.lowering.tir import Expr, T


@dataclass(frozen=True)
class TableTile:
    """Consecutive outputs of a slab whose sums are worked on together."""

    first: Expr
    """First output."""
    width: int
    padded: int
    """Outputs with those that nobody reads."""
    slab: Expr
    offset: Expr
    """First byte of its tables."""


@dataclass(frozen=True)
class Tables:
    """All tables of a layer."""

    planes: IndexPlanes
    outputs: int
    format: TableFormat
    shuffle: ByteShuffle

    @property
    def tile_width(self) -> int:
        """Most outputs of a tile, those that nobody reads included."""
        return min(self.shuffle.tile_width(self.format.digits, self.output_bytes), self.padded_slab)

    @property
    def padded_slab(self) -> int:
        """Outputs of a slab with those that nobody reads."""
        return self.padded(self.slab_width)

    def padded(self, width: int) -> int:
        """Up to whole vectors."""
        return -(-width // self.shuffle.side) * self.shuffle.side

    @property
    def slabs(self) -> int:
        """Slabs of outputs that read index bytes of their own."""
        return self.planes.inputs.classes

    @property
    def slab_width(self) -> int:
        """Outputs of a slab."""
        return self.outputs // self.slabs

    @property
    def entries(self) -> int:
        """Index bytes that an output reads."""
        return self.planes.geometry.taps * self.planes.inputs.class_bytes

    @property
    def output_bytes(self) -> int:
        """Size of the tables of one output."""
        return self.entries * 2 * self.format.digits * ENTRIES

    @property
    def num_bytes(self) -> int:
        """Size of all tables."""
        return self.slabs * self.padded_slab * self.output_bytes

    def table(self, tile: TableTile, entry: Expr, half: int, output: Expr, digit: int) -> Expr:
        """Index of the first byte of a table; outputs count from the tile's first."""
        side, vectors = self.shuffle.side, tile.padded // self.shuffle.side
        vector = ((entry * 2 + half) * vectors + output // side) * self.format.digits + digit
        return tile.offset + (vector * side + output % side) * ENTRIES

    def loop(self) -> Iterator[TableTile]:
        """All tiles inside a TIR kernel: of each slab the full ones, then the tail."""
        full, tail = divmod(self.slab_width, self.tile_width)
        with T.serial(self.slabs) as slab:
            if full:
                with T.serial(full) as index:
                    yield self._tile(slab, index * self.tile_width, self.tile_width)
            if tail:
                yield self._tile(slab, T.int32(full * self.tile_width), tail)

    def _tile(self, slab: Expr, first: Expr, width: int) -> TableTile:
        offset = (slab * self.padded_slab + first) * self.output_bytes
        return TableTile(slab * self.slab_width + first, width, self.padded(width), slab, offset)
