"""Where the tables of a layer lie, and which tile of outputs reads which.

    tables    [slab][tile][entry][half][output][digit][16] bytes
    offsets   [slab][entry] int32: where the plane of an entry begins

An entry is an index byte at a tap, of which each half is the index of a table.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from spikenm_compile.costs.table_format import ENTRIES, TableFormat
from spikenm_compile.lowering.kernels.index_planes import IndexPlanes
from spikenm_compile.lowering.tir import Expr, T


@dataclass(frozen=True)
class TableTile:
    """Consecutive outputs of a slab whose sums are worked on together."""

    first: Expr
    """First output."""
    width: int
    slab: Expr
    offset: Expr
    """First byte of its tables."""


@dataclass(frozen=True)
class Tables:
    """All tables of a layer."""

    planes: IndexPlanes
    outputs: int
    format: TableFormat
    tile_width: int

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
    def bias(self) -> int:
        """What all lookups of an output bring beside its sum."""
        return 2 * self.entries * self.format.bias

    @property
    def output_bytes(self) -> int:
        """Size of the tables of one output."""
        return self.entries * 2 * self.format.digits * ENTRIES

    @property
    def num_bytes(self) -> int:
        """Size of all tables."""
        return self.outputs * self.output_bytes

    def table(self, tile: TableTile, entry: Expr, half: int, output: Expr, digit: int) -> Expr:
        """Index of the first byte of a table; outputs count from the tile's first."""
        number = ((entry * 2 + half) * tile.width + output) * self.format.digits + digit
        return tile.offset + number * ENTRIES

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
        output = slab * self.slab_width + first
        return TableTile(output, width, slab, output * self.output_bytes)
