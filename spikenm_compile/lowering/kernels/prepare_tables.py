"""Stored weights to lookup tables, once when an artifact is loaded.

How weights are stored: kernels.prepare. First the channel of each bit of the index bytes is written down, as
lowering.input_bytes says; tables ask for the weights by it.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

from tvm import tirx

from spikenm_compile.costs.table_format import BYTE_INPUTS, ENTRIES, INPUTS, TableFormat
from spikenm_compile.lowering import tir
from spikenm_compile.lowering.kernels.prepare import position_of
from spikenm_compile.lowering.kernels.tables import Tables, TableTile
from spikenm_compile.lowering.tir import Buffer, Expr, T
from spikenm_compile.pattern import Pattern


@dataclass(frozen=True)
class StoredTables:
    """How a layer's weights lie in the artifact, and the tables they become."""

    tables: Tables
    pattern: Pattern | None

    @property
    def channels(self) -> int:
        """Of the input."""
        return self.tables.planes.inputs.channels

    @property
    def taps(self) -> int:
        """Kernel height × width."""
        return self.tables.planes.geometry.taps

    @property
    def class_bytes(self) -> int:
        """Index bytes of a class."""
        return self.tables.planes.inputs.class_bytes

    @property
    def num_bits(self) -> int:
        """Bits of all index bytes of a pixel."""
        return self.tables.planes.mixed_planes * BYTE_INPUTS


def build_prepare_tables(name: str, stored: StoredTables) -> list[tirx.PrimFunc]:
    """Kernel `(values, metadata, channels, offsets, least, tables, num_steps)`."""
    functions = list[tirx.PrimFunc]()
    params = [tir.Param("values", "int8"), tir.Param("metadata", "uint8")]
    params += [tir.Param(part, "int32") for part in ("channels", "offsets", "least")]
    params.append(tir.Param("tables", "uint8"))
    with tir.kernel(name, params, functions) as ((values, metadata, channels, offsets, least, tables), _):
        _list_channels(stored, channels)
        _list_offsets(stored.tables, offsets)
        for tile in stored.tables.loop():
            with T.serial(tile.width) as output:
                tir.store(least, tile.first + output, T.int32(0))
                with T.serial(stored.tables.entries) as entry:
                    source = _Weights(stored, tile.first + output, entry // stored.class_bytes, values, metadata)
                    for half in range(2):
                        bit = _first_bit(stored.tables, tile, entry, half)
                        weights = [source.read(channels[bit + i]) for i in range(INPUTS)]
                        lowest = reduce(operator.add, (T.min(weight, 0) for weight in weights))
                        tir.store(least, tile.first + output, least[tile.first + output] + lowest)
                        for digit in range(stored.tables.format.digits):
                            at = stored.tables.table(tile, entry, half, output, digit)
                            _write_table(stored.tables.format, weights, digit, tables, at)
    return functions


def _list_channels(stored: StoredTables, channels: Buffer) -> None:
    """The channel of each bit of the index bytes [class][byte][bit], or -1."""
    for unit in stored.tables.planes.inputs.units():
        with T.serial(unit.repeats) as repeat:
            for number, made in enumerate(unit.bytes):
                byte = number * stored.class_bytes + unit.first_byte + repeat * unit.class_bytes
                for bit, channel in enumerate(itertools.chain.from_iterable(of.channels for of in made)):
                    known = unit.first_channel + repeat * unit.size + channel
                    tir.store(channels, byte * BYTE_INPUTS + bit, T.int32(-1) if channel < 0 else known)


def _list_offsets(tables: Tables, offsets: Buffer) -> None:
    """Where the plane of each entry of each slab begins."""
    planes = tables.planes
    bytes_, classes = planes.inputs.class_bytes, planes.inputs.classes
    with T.serial(tables.slabs) as slab, T.serial(planes.geometry.taps) as tap, T.serial(bytes_) as byte:
        entry = slab * tables.entries + tap * bytes_ + byte
        tir.store(offsets, entry, planes.plane((slab + tap) % classes, byte, tap))


def _first_bit(tables: Tables, tile: TableTile, entry: Expr, half: int) -> Expr:
    """Of the index bytes of all classes, the bit of the first input of a table."""
    inputs = tables.planes.inputs
    number = (tile.slab + entry // inputs.class_bytes) % inputs.classes
    return (number * inputs.class_bytes + entry % inputs.class_bytes) * BYTE_INPUTS + half * INPUTS


def _write_table(number_format: TableFormat, weights: Sequence[Expr], digit: int, out: Buffer, at: Expr) -> None:
    """One digit of the partial sums of the weights, for each set of them whose inputs spike."""
    for index in range(ENTRIES):
        # a positive weight counts where its input spikes, a negative one where it does not
        counted = (T.max(w, 0) if index >> i & 1 else -T.min(w, 0) for i, w in enumerate(weights))
        total = reduce(operator.add, counted)
        value = total // number_format.base if digit else total % number_format.base
        tir.store(out, at + index, T.cast(value, "uint8"))


@dataclass(frozen=True)
class _Weights:
    """The stored weights of one output at one tap."""

    stored: StoredTables
    output: Expr
    tap: Expr
    values: Buffer
    metadata: Buffer

    def read(self, channel: Expr) -> Expr:
        """The weight of a channel; 0 where it is none or not kept."""
        weight, pattern = tir.variable("int32", T.int32(0)), self.stored.pattern
        with T.If(channel >= 0), T.Then():
            if pattern is None:
                self._take(weight, (self.output * self.stored.channels + channel) * self.stored.taps + self.tap)
            elif pattern.staggered:
                self._read_staggered(weight, pattern, channel)
            else:
                self._read_packed(weight, pattern, channel)
        return weight[0]

    def _read_staggered(self, weight: Buffer, pattern: Pattern, channel: Expr) -> None:
        slabs = pattern.m // pattern.n
        first = self.tap + channel // pattern.m + self.output * slabs // self.stored.tables.outputs
        with T.If(channel % pattern.m % slabs == first % slabs), T.Then():
            self._take(weight, self._group(pattern, channel) + channel % pattern.m // slabs)

    def _read_packed(self, weight: Buffer, pattern: Pattern, channel: Expr) -> None:
        with T.serial(pattern.n) as kept:
            position = position_of(pattern, self.metadata, self._group(pattern, channel, pattern.v) + kept)
            # positions of a group differ; an entry that nothing was left for has the value 0
            with T.If(position == channel % pattern.m), T.Then():
                entry = self._group(pattern, channel) + kept
                tir.store(weight, 0, weight[0] + T.cast(self.values[entry], "int32"))

    def _group(self, pattern: Pattern, channel: Expr, outputs: int = 1) -> Expr:
        """Index of what is stored first for a channel's group, once for so many outputs."""
        groups = self.stored.channels // pattern.m
        first = self.output // outputs * self.stored.taps + self.tap
        return (first * groups + channel // pattern.m) * pattern.n

    def _take(self, weight: Buffer, index: Expr) -> None:
        tir.store(weight, 0, T.cast(self.values[index], "int32"))
