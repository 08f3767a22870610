"""Event-driven convolution with shared patterns: a spike adds a weight row only to slabs whose mask keeps it.

    for slab, y, x:
      for t:                                  the list of the slab's rows (kept_list)
      for tile of the slab, t:                states of the tile stay in registers over t
        sum[o] = Σ rows[slab][tile][entry][o]
        current, neuron, bits                 (or: current to memory)

Time is proportional to spikes · N/M, besides the lists, which take the same time however few the spikes. Rows hold what
the mask keeps only. The spikes are read as bits: there is no list of all events.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tvm import tirx

from spikenm_compile.lowering import tir
from spikenm_compile.lowering.kernels.event_run import ROW_WORD
from spikenm_compile.lowering.kernels.kept_list import KeptList
from spikenm_compile.lowering.kernels.row_sums import NIBBLE_EVENTS, ROW_SUMS, RowSource, words_of
from spikenm_compile.lowering.kernels.tile_output import TileOutput, output_params
from spikenm_compile.lowering.layout import Bits, Floats, Geometry, Tile
from spikenm_compile.lowering.shared_slabs import SharedSlabs
from spikenm_compile.lowering.tir import Buffer, Expr, T
from spikenm_compile.neurons import Neuron


@dataclass(frozen=True)
class SharedRows:
    """One layer of slabs."""

    slabs: SharedSlabs
    geometry: Geometry
    never_overflows: bool
    """Whether the weights prove that every sum fits int16."""
    out: Bits | Floats
    """Spikes, or the current."""
    neuron: Neuron | None
    """Fused neuron; None where `out` is the current."""


@dataclass(frozen=True)
class RowStarts:
    """A list, from an entry on, as the words at which the rows of a tile start."""

    entries: Buffer
    first: Expr
    row_words: int

    def __getitem__(self, i: Expr) -> Expr:
        """Of one entry."""
        return T.cast(self.entries[self.first + i], "int32") * self.row_words


def build_shared_rows(name: str, layer: SharedRows) -> list[tirx.PrimFunc]:
    """Kernel `(spikes, lengths, entries, rows, patterns, table, scale, bias, [constants..., states...,] out, steps)`.

    `lengths` and `entries` are memory for the lists of one output pixel.
    """
    slabs, functions = layer.slabs, list[tirx.PrimFunc]()
    params = [tir.Param("spikes", "uint64"), tir.Param("lengths", "int32"), tir.Param("entries", slabs.dtype)]
    params += [tir.Param("rows", "int8"), tir.Param("patterns", "uint64"), tir.Param("table", "uint8")]
    params += output_params(layer.neuron, layer.out)
    with tir.kernel(name, params, functions) as (buffers, num_steps):
        spikes, lengths, entries, weights, patterns, table, *rest = buffers
        for slab, rows in slabs.loop():
            lists = KeptList(slabs, slab, spikes, patterns, table, entries)
            with T.serial(layer.out.height) as y, T.serial(layer.out.width) as x:
                with T.serial(num_steps) as t:
                    tir.store(lengths, t, lists.write(t * slabs.longest, _first_word(layer, t, y, x)))
                for tile in rows.loop():
                    offset = slab * slabs.rows.num_bytes + tile.offset
                    own = replace(tile, first=slab * slabs.rows.outputs + tile.first, offset=offset)
                    output = TileOutput(own, layer.out, layer.neuron, rest)
                    output.load(y, x)
                    with T.serial(num_steps) as t:
                        output.write(_sum(layer, own, weights, entries, t, lengths[t]), t, y, x)
                    output.save(y, x)
    return functions


def _first_word(layer: SharedRows, t: Expr, y: Expr, x: Expr) -> Expr:
    """Index of the spikes that the first tap of an output reads."""
    g = layer.geometry
    return layer.slabs.spikes.at(t, y * g.stride[0] - g.padding[0], x * g.stride[1] - g.padding[1])


def _sum(layer: SharedRows, tile: Tile, weights: Buffer, entries: Buffer, t: Expr, length: Expr) -> Expr:
    """Σ of the weight rows in the list of step t."""
    slabs, row_words = layer.slabs, tile.row // ROW_WORD
    sums = ROW_SUMS[slabs.rows.format](RowSource(tile, slabs.rows.format, layer.never_overflows, words_of(weights)))
    first, room = t * slabs.longest, sums.room // NIBBLE_EVENTS * NIBBLE_EVENTS
    if slabs.longest <= room:
        sums.add(RowStarts(entries, first, row_words), length)
        return sums.total()
    with T.serial((length + (room - 1)) // room) as part:
        sums.add(RowStarts(entries, first + part * room, row_words), T.min(length - part * room, room))
    return sums.total()
