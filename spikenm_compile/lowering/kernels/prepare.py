"""Stored weights to weight rows, once when an artifact is loaded.

Stored are, per layer, either all int8 weights [O, I, kh, kw], or N:M packed: `values` [O, kh, kw, I/M, N] and
`metadata`, a little-endian stream of ⌈log2 M⌉ bits per value that gives its position in the group, followed by one
zero byte (so that two bytes can always be read); outputs that share a mask have their positions in common. A linear
layer is stored with one tap and C·H·W channels in PyTorch's flatten order, and becomes a convolution with a kernel of
H × W taps.

Staggered weights (lowering.stagger) are stored without metadata, since the kept members of a group are known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from tvm import tirx

from spikenm_compile.lowering import tir
from spikenm_compile.lowering.layout import Rows, Tile
from spikenm_compile.lowering.row_format import RowFormat
from spikenm_compile.lowering.stagger import Stagger
from spikenm_compile.lowering.tir import Buffer, Expr, T
from spikenm_compile.pattern import Pattern


@dataclass(frozen=True)
class StoredWeight:
    """How a layer's weights lie in the artifact, and the rows they become."""

    rows: Rows
    """Rows of one group."""
    groups: int
    pattern: Pattern | None
    is_flattened: bool
    """Stored as a linear layer, [O, C·H·W], one tap, for rows of several."""
    stagger: Stagger | None = None
    """Of rows of sets of slabs; None: of rows of all inputs."""

    @property
    def stored_taps(self) -> int:
        """Kernel taps as stored."""
        return 1 if self.is_flattened else self.rows.taps

    @property
    def stored_channels(self) -> int:
        """Input channels as stored, zeros of N:M weights included."""
        classes = 1 if self.stagger is None else self.stagger.classes
        return classes * self.rows.channels * self.rows.taps // self.stored_taps

    @property
    def num_outputs(self) -> int:
        """Of all groups."""
        return self.rows.outputs * self.groups

    def place(self, channel: Expr, tap: Expr) -> tuple[Expr, Expr]:
        """(tap, channel) of the rows for a stored channel and tap."""
        if self.stagger is not None:
            return tap, self.stagger.rank(channel)
        if self.is_flattened:
            return channel % self.rows.taps, channel // self.rows.taps
        return tap, channel


def build_prepare(name: str, stored: StoredWeight) -> list[tirx.PrimFunc]:
    """Kernel `(values, metadata, rows, num_steps)`."""
    functions = list[tirx.PrimFunc]()
    params = [tir.Param("values", "int8"), tir.Param("metadata", "uint8"), tir.Param("rows", "int8")]
    with tir.kernel(name, params, functions) as ((values, metadata, rows), _):
        _fill(stored, rows)
        for tile, group in stored.rows.loop_over(stored.groups):
            with T.serial(tile.width) as column:
                output = _output(stored, group, tile.first + column)
                give_weights(stored, output, _Column(stored, tile, column, rows), values, metadata)
    return functions


class Target(Protocol):
    """Who is given the weights of one output channel."""

    def write(self, channel: Expr, tap: Expr, weight: Expr) -> None:
        """Take the weight of a stored channel and tap."""


def give_weights(stored: StoredWeight, output: Expr, target: Target, values: Buffer, metadata: Buffer) -> None:
    """Give `target` all stored weights of one output channel."""
    if stored.pattern is None:
        _copy(stored, output, target, values)
    else:
        _unpack(stored, stored.pattern, output, target, values, metadata)


def _fill(stored: StoredWeight, rows: Buffer) -> None:
    """Rows of zeros."""
    fill_rows(stored.rows.format, rows, stored.groups * stored.rows.num_bytes)


def fill_rows(form: RowFormat, rows: Buffer, num_bytes: int) -> None:
    """Zeros in so many bytes of rows."""
    even, odd = form.fill
    with T.serial(num_bytes // 2) as i:
        tir.store(rows, i * 2, T.int8(even))
        tir.store(rows, i * 2 + 1, T.int8(odd))


def _output(stored: StoredWeight, group: Expr, place: Expr) -> Expr:
    """The output at a place in the order of the rows' columns."""
    if stored.stagger is None:
        return place
    slab_width = stored.num_outputs // stored.stagger.slabs
    return stored.stagger.output_of(group, place - group * stored.rows.outputs, slab_width)


@dataclass(frozen=True)
class _Column:
    """Where the weights of one output channel go."""

    stored: StoredWeight
    tile: Tile
    column: Expr
    rows: Buffer

    def write(self, channel: Expr, tap: Expr, weight: Expr) -> None:
        """Write a weight of a stored channel and tap over a zero."""
        row_tap, row_channel = self.stored.place(channel, tap)
        place = self.stored.rows.place(row_tap, row_channel)
        write_weight(self.stored.rows.format, self.tile, self.column, place, weight, self.rows)


def write_weight(
    form: RowFormat, tile: Tile, column: Expr, place: tuple[Expr, Expr], weight: Expr, rows: Buffer
) -> None:
    """Write the weight of a column of the row, and of the half of a pair, at `place` over a zero."""
    row, half = place
    slot = form.slot(column, tile.row, half)
    at = tile.offset + row * tile.row + slot.byte
    if form is not RowFormat.INT4:
        tir.store(rows, at, T.cast(T.cast(weight, "int32") + slot.bias, "int8"))
        return
    other = T.bitwise_and(T.cast(rows[at], "int32"), T.shift_right(T.int32(0xF0), slot.shift))
    code = T.shift_left(T.cast(weight, "int32") + slot.bias, slot.shift)
    tir.store(rows, at, T.cast(T.bitwise_or(other, code), "int8"))


def _copy(stored: StoredWeight, output: Expr, target: Target, values: Buffer) -> None:
    """All weights of one output channel: stored [O, I, taps]."""
    with T.serial(stored.stored_channels) as channel, T.serial(stored.stored_taps) as tap:
        source = (output * stored.stored_channels + channel) * stored.stored_taps + tap
        target.write(channel, tap, values[source])


def _unpack(
    stored: StoredWeight, pattern: Pattern, output: Expr, target: Target, values: Buffer, metadata: Buffer
) -> None:
    """The kept weights of one output channel: stored [O, taps, I/M, N]."""
    groups = stored.stored_channels // pattern.m
    with T.serial(stored.stored_taps) as tap, T.serial(groups) as nm_group, T.serial(pattern.n) as kept:
        source = ((output * stored.stored_taps + tap) * groups + nm_group) * pattern.n + kept
        if pattern.staggered:
            slabs = pattern.m // pattern.n
            position = (tap + nm_group + output * slabs // stored.num_outputs) % slabs + kept * slabs
        else:
            of_slab = ((output // pattern.v * stored.stored_taps + tap) * groups + nm_group) * pattern.n + kept
            position = position_of(pattern, metadata, of_slab)
        target.write(nm_group * pattern.m + position, tap, values[source])


def position_of(pattern: Pattern, metadata: Buffer, entry: Expr) -> Expr:
    """Position of an entry in its group."""
    first = entry * pattern.index_bits
    window = _byte(metadata, first // 8) + _byte(metadata, first // 8 + 1) * 256
    return T.shift_right(window, first % 8) & ((1 << pattern.index_bits) - 1)


def _byte(metadata: Buffer, index: Expr) -> Expr:
    return T.cast(metadata[index], "int32")
