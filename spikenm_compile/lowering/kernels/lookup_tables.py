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
from spikenm_compile.lowering.byte_shuffle import MOST_GROUPS, TABLE
from spikenm_compile.lowering.kernels.index_planes import PIXELS, pieces
from spikenm_compile.lowering.kernels.neuron_tile import neuron_params
from spikenm_compile.lowering.kernels.position_neurons import PositionNeurons, SpikeBytes
from spikenm_compile.lowering.kernels.table_sums import TableSums
from spikenm_compile.lowering.kernels.tables import Tables, TableTile
from spikenm_compile.lowering.layout import Bits, Planes
from spikenm_compile.lowering.tir import Buffer, Expr, T
from spikenm_compile.neurons import Neuron

BLOCK = 256
"""Positions of a block, whose sums over all steps stay in the first cache; images of fewer are one block."""


@dataclass(frozen=True)
class LookupTables:
    """One layer."""

    tables: Tables
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
    def block(self) -> int:
        """Positions of a block."""
        return min(self.positions, BLOCK)

    @property
    def step_groups(self) -> int:
        """Groups of positions of a block at one step."""
        return -(-self.block // TABLE) * TABLE // self.tables.shuffle.group

    @property
    def scratch_bytes(self) -> tuple[int, int]:
        """Sizes of `sums` and of `gathered` spikes, of which currents need none: a byte, to have a place of its own."""
        gathered = 1 if self.neuron is None else self.spikes.num_bytes
        groups = self.tables.planes.max_steps * self.step_groups + MOST_GROUPS
        sums = groups * self.tables.shuffle.group * self.tables.tile_width
        return sums * tir.bytes_of(self.sum_type), gathered


def build_lookup_tables(name: str, layer: LookupTables) -> list[tirx.PrimFunc]:
    """Kernel `(planes, offsets, least, tables, sums, gathered, scale, bias, [constants, states,] out, num_steps)`."""
    functions = list[tirx.PrimFunc]()
    with tir.kernel(name, _params(layer), functions) as (buffers, num_steps):
        planes, offsets, least, values, sums, gathered, *rest = buffers
        if layer.neuron is not None:
            _clear(layer, gathered, num_steps)
        for tile in layer.tables.loop():
            source = TableSums(layer.tables, tile, layer.sum_type, planes, offsets, values)
            for first, count in pieces(layer.positions, layer.block, halves=False):
                _sum_block(layer, source, first, count, sums, num_steps)
                with T.serial(tile.width) as output:
                    for start, width in pieces(count, layer.lanes):
                        place = _Positions(layer, tile, output, start, first + start, width, sums, least)
                        place.write(gathered, rest, num_steps)
        if isinstance(layer.out, Bits):
            _write_words(layer.spikes, layer.out, gathered, rest[-1], num_steps)
    return functions


def _params(layer: LookupTables) -> list[tir.Param]:
    neuron_only = [] if layer.neuron is None else neuron_params(layer.neuron, layer.out)[:-1]
    return [
        tir.Param("planes", "uint8"),
        tir.Param("offsets", "int32"),
        tir.Param("least", "int32"),
        tir.Param("tables", "uint8"),
        tir.Param("sums", layer.sum_type),
        tir.Param("gathered", "uint8"),
        *(tir.Param(part, "float32") for part in ("scale", "bias")),
        *neuron_only,
        tir.Param("out", layer.out.dtype),
    ]


def _clear(layer: LookupTables, gathered: Buffer, num_steps: Expr) -> None:
    with T.serial(layer.spikes.planes) as plane, T.serial(num_steps * layer.positions) as i:
        tir.store(gathered, plane * layer.spikes.stride + i, T.uint8(0))


def _sum_block(layer: LookupTables, source: TableSums, first: Expr, count: int, sums: Buffer, num_steps: Expr) -> None:
    """The sums of a tile at `count` positions and all steps."""
    size, at_once = layer.tables.shuffle.group, source.groups
    if layer.positions == layer.block:
        with T.serial((num_steps * layer.step_groups + (at_once - 1)) // at_once) as chunk:
            source.compute(chunk * at_once * size, sums, chunk * at_once)
        return
    with T.serial(num_steps) as t, T.serial(-(-count // (size * at_once))) as chunk:
        position = t * layer.tables.planes.pitch + first + chunk * at_once * size
        source.compute(position, sums, t * layer.step_groups + chunk * at_once)


@dataclass(frozen=True)
class _Positions:
    """Some positions of one output of a tile."""

    layer: LookupTables
    tile: TableTile
    output: Expr
    """Number in the tile."""
    start: Expr
    """First position, of those of the block."""
    first: Expr
    """Of all."""
    width: int
    sums: Buffer
    least: Buffer

    def write(self, gathered: Buffer, buffers: Sequence[Buffer], num_steps: Expr) -> None:
        """Sums to spikes or current; `buffers` are scale, bias and those behind."""
        neuron, (scale, bias, *rest), channel = self.layer.neuron, buffers, self.tile.first + self.output
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
        product = tir.cast("float32", self.width, self._sums(t)) * tir.splat(scale, self.width)
        return tir.fence(product, self.width) + tir.splat(bias, self.width)

    def _sums(self, t: Expr) -> Expr:
        """Those of whole groups lie apart, those of less in one."""
        size = self.layer.tables.shuffle.group
        first = t * self.layer.step_groups + self.start // size
        groups = [(first + i) * self.tile.padded + self.output for i in range(-(-self.width // size))]
        parts = [self.sums[tir.lanes(g * size + self.start % size, min(size, self.width))] for g in groups]
        counted = parts[0] if len(parts) == 1 else tir.join(parts, range(self.width))
        least = T.cast(self.least[self.tile.first + self.output], self.layer.sum_type)
        return counted + tir.splat(least, self.width)


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
