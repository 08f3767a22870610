"""Stored weights to weight rows, once when an artifact is loaded.

Stored are, per layer, either all int8 weights [O, I, kh, kw], or N:M packed: `values` [O, kh, kw, I/M, N] and
`metadata`, a little-endian stream of ⌈log2 M⌉ bits per value that gives its position in the group, followed by one
zero byte (so that two bytes can always be read). A linear layer is stored with one tap and C·H·W channels in
PyTorch's flatten order, and becomes a convolution with a kernel of H × W taps.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx

from spikenm_compile.lowering import tir
from spikenm_compile.lowering.layout import Rows, Tile
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
    """Stored as a linear layer: [O, C·H·W], one tap."""

    @property
    def stored_taps(self) -> int:
        """Kernel taps as stored."""
        return 1 if self.is_flattened else self.rows.taps

    @property
    def stored_channels(self) -> int:
        """Input channels as stored."""
        return self.rows.channels * self.rows.taps // self.stored_taps

    def place(self, channel: Expr, tap: Expr) -> tuple[Expr, Expr]:
        """(tap, channel) of the rows for a stored channel and tap."""
        if self.is_flattened:
            return channel % self.rows.taps, channel // self.rows.taps
        return tap, channel


def build_prepare(name: str, stored: StoredWeight) -> list[tirx.PrimFunc]:
    """Kernel `(values, metadata, rows, num_steps)`; `rows` must be zero."""
    functions = list[tirx.PrimFunc]()
    params = [tir.Param("values", "int8"), tir.Param("metadata", "uint8"), tir.Param("rows", "int8")]
    with tir.kernel(name, params, functions) as ((values, metadata, rows), _), T.serial(stored.groups) as group:
        for tile in stored.rows.loop():
            with T.serial(tile.width) as column:
                output = group * stored.rows.outputs + tile.first + column
                offset = group * stored.rows.num_bytes + tile.offset + column
                if stored.pattern is None:
                    _copy(stored, tile, output, offset, values, rows)
                else:
                    _unpack(stored, stored.pattern, tile, output, offset, values, metadata, rows)
    return functions


def _row(stored: StoredWeight, tile: Tile, offset: Expr, channel: Expr, tap: Expr) -> Expr:
    row_tap, row_channel = stored.place(channel, tap)
    return offset + (row_tap * stored.rows.channels + row_channel) * tile.row


def _copy(stored: StoredWeight, tile: Tile, output: Expr, offset: Expr, values: Buffer, rows: Buffer) -> None:
    """All weights of one output channel: stored [O, I, taps]."""
    with T.serial(stored.stored_channels) as channel, T.serial(stored.stored_taps) as tap:
        source = (output * stored.stored_channels + channel) * stored.stored_taps + tap
        tir.store(rows, _row(stored, tile, offset, channel, tap), values[source])


def _unpack(
    stored: StoredWeight,
    pattern: Pattern,
    tile: Tile,
    output: Expr,
    offset: Expr,
    values: Buffer,
    metadata: Buffer,
    rows: Buffer,
) -> None:
    """The kept weights of one output channel: stored [O, taps, I/M, N]."""
    groups = stored.stored_channels // pattern.m
    bits, mask = pattern.index_bits, (1 << pattern.index_bits) - 1
    with T.serial(stored.stored_taps) as tap, T.serial(groups) as nm_group, T.serial(pattern.n) as kept:
        source = ((output * stored.stored_taps + tap) * groups + nm_group) * pattern.n + kept
        window = _byte(metadata, source * bits // 8) + _byte(metadata, source * bits // 8 + 1) * 256
        position = T.shift_right(window, source * bits % 8) & mask
        tir.store(rows, _row(stored, tile, offset, nm_group * pattern.m + position, tap), values[source])


def _byte(metadata: Buffer, index: Expr) -> Expr:
    return T.cast(metadata[index], "int32")
