"""Convolution by tables: the partial sums of four inputs are looked up at many positions at once.

    for tile of outputs, block of positions:
      for t:                          sums[output][t][position]           kernels.table_sums
      for output:                     states of some positions stay in registers over t
        for t:                        current, neuron, a bit of a byte of spikes          (or: current to memory)
    spikes as bytes to words

Time is proportional to the inputs that a slab of outputs reads: the weights that are kept, where the pattern is
staggered. How many of them spike makes no difference.

Where an image is small, positions count through all steps, so that vectors are full.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

from tvm import tirx

from spikenm_compile.lowering import tir
from spikenm_compile.lowering.byte_shuffle import ByteShuffle
from spikenm_compile.lowering.kernels.index_planes import PIXELS, pieces
from spikenm_compile.lowering.kernels.neuron_tile import neuron_params
from spikenm_compile.lowering.kernels.position_neurons import PositionNeurons, SpikeBytes
from spikenm_compile.lowering.kernels.table_sums import TableSums
from spikenm_compile.lowering.kernels.tables import Tables
from spikenm_compile.lowering.layout import Bits, Planes
from spikenm_compile.lowering.tir import Buffer, Expr, T
from spikenm_compile.neurons import Neuron

BLOCK = 256
"""Positions of a block, whose sums over all steps stay in the first cache; images of fewer are one block."""


@dataclass(frozen=True)
class LookupTables:
    """One layer."""

    tables: Tables
    shuffle: ByteShuffle
    never_overflows: bool
    """Whether the weights prove that every sum fits int16."""
    out: Bits | Planes
    """Spikes, or the current."""
    neuron: Neuron | None
    lanes: int
    """Positions whose neurons are computed together, a power of two."""

    @property
    def positions(self) -> int:
        """Outputs of one channel and step."""
        return self.tables.planes.positions

    @property
    def spikes(self) -> SpikeBytes:
        """Where spikes are gathered."""
        return SpikeBytes(self.tables.outputs, self.positions, self.tables.planes.max_steps)

    @property
    def sum_type(self) -> str:
        """Of the sums of weights."""
        return "int16" if self.never_overflows else "int32"

    @property
    def pitch(self) -> int:
        """Positions of a block, which its sums of one step take."""
        return min(self.positions, BLOCK)

    @property
    def room(self) -> int:
        """Sums of one output over all steps, and what a vector of them may reach beyond the last."""
        return self.tables.planes.max_steps * self.pitch + self.shuffle.lanes

    @property
    def scratch_bytes(self) -> tuple[int, int]:
        """Sizes of `sums` and of `gathered` spikes."""
        gathered = 0 if self.neuron is None else self.spikes.num_bytes
        return self.tables.tile_width * self.room * tir.bytes_of(self.sum_type), gathered


def build_lookup_tables(name: str, layer: LookupTables) -> list[tirx.PrimFunc]:
    """Kernel `(planes, offsets, tables, sums, gathered, scale, bias, [constants..., states...,] out, num_steps)`."""
    functions = list[tirx.PrimFunc]()
    neuron_only = [] if layer.neuron is None else neuron_params(layer.neuron, layer.out)[:-1]
    params = [
        tir.Param("planes", "uint8"),
        tir.Param("offsets", "int32"),
        tir.Param("tables", "uint8"),
        tir.Param("sums", layer.sum_type),
        tir.Param("gathered", "uint8"),
        *(tir.Param(part, "float32") for part in ("scale", "bias")),
        *neuron_only,
        tir.Param("out", layer.out.dtype),
    ]
    with tir.kernel(name, params, functions) as ((planes, offsets, values, sums, gathered, *rest), num_steps):
        if layer.neuron is not None:
            _clear(layer, gathered, num_steps)
        for tile in layer.tables.loop():
            source = TableSums(layer.tables, tile, layer.shuffle, layer.sum_type, planes, offsets, values)
            for first, count in pieces(layer.positions, layer.pitch, halves=False):
                _sum_block(layer, source, first, count, sums, num_steps)
                with T.serial(tile.width) as output:
                    for start, width in pieces(count, layer.lanes):
                        block = _Positions(layer, output * layer.room + start, first + start, width, sums)
                        block.write(tile.first + output, gathered, rest, num_steps)
        if isinstance(layer.out, Bits):
            _write_words(layer.spikes, layer.out, gathered, rest[-1], num_steps)
    return functions


def _clear(layer: LookupTables, gathered: Buffer, num_steps: Expr) -> None:
    with T.serial(layer.spikes.planes) as plane, T.serial(num_steps * layer.positions) as i:
        tir.store(gathered, plane * layer.spikes.stride + i, T.uint8(0))


def _sum_block(layer: LookupTables, source: TableSums, first: Expr, count: int, sums: Buffer, num_steps: Expr) -> None:
    """The sums of a tile at `count` positions and all steps."""
    lanes = layer.shuffle.lanes
    if layer.positions == layer.pitch:
        with T.serial((num_steps * count + (lanes - 1)) // lanes) as chunk:
            source.compute(chunk * lanes, sums, chunk * lanes, layer.room)
        return
    with T.serial(num_steps) as t, T.serial(-(-count // lanes)) as chunk:
        position = t * layer.positions + first + chunk * lanes
        source.compute(position, sums, t * layer.pitch + chunk * lanes, layer.room)


@dataclass(frozen=True)
class _Positions:
    """Some positions of one output of a tile."""

    layer: LookupTables
    sums_at: Expr
    """Index of the first sum, at the first step."""
    first: Expr
    width: int
    sums: Buffer

    def write(self, channel: Expr, gathered: Buffer, buffers: Sequence[Buffer], num_steps: Expr) -> None:
        """Sums to spikes or current; `buffers` are scale, bias and those behind."""
        neuron, (scale, bias, *rest) = self.layer.neuron, buffers
        if neuron is None:
            with T.serial(num_steps) as t:
                at = self.layer.out.element(t, 0, self.first, channel)
                tir.store(rest[-1], tir.lanes(at, self.width), self._current(t, scale[channel], bias[channel]))
            return
        tile = PositionNeurons(neuron, self.layer.spikes, channel, self.width, [*rest[:-1], gathered])
        tile.load(T.int32(0), self.first)
        with T.serial(num_steps) as t:
            tile.step([self._current(t, scale[channel], bias[channel])], t, T.int32(0), self.first)
        tile.save(T.int32(0), self.first)

    def _current(self, t: Expr, scale: Expr, bias: Expr) -> Expr:
        total = self.sums[tir.lanes(self.sums_at + t * self.layer.pitch, self.width)]
        product = tir.cast("float32", self.width, total) * tir.splat(scale, self.width)
        return tir.fence(product, self.width) + tir.splat(bias, self.width)


def _write_words(spikes: SpikeBytes, out: Bits, gathered: Buffer, words: Buffer, num_steps: Expr) -> None:
    """Bytes of spikes to words of pixels."""
    with T.serial(num_steps) as t, T.serial(out.height) as y:
        for x, count in pieces(out.width, PIXELS):
            for number in range(out.pixel):
                planes = range(number * 8, min(number * 8 + 8, spikes.planes))
                parts = [
                    _shifted(gathered[tir.lanes(spikes.at(p, t, y * out.width + x), count)], p % 8, count)
                    for p in planes
                ]
                target = tir.strided(out.at(t, y, x) + number, out.pixel, count)
                tir.store(words, target, reduce(T.bitwise_or, parts))


def _shifted(byte: Expr, place: int, count: int) -> Expr:
    return T.shift_left(tir.cast("uint64", count, byte), tir.constant("uint64", count, 8 * place))
