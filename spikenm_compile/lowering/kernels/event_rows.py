"""Event-driven convolution: each spike adds one int8 weight row to the sums of a tile of output channels.

    for tile, y, x:                         states of the tile stay in registers over t
      for t:
        sum = 0
        for ky, for event in the run of the taps kx:    sum[o] += weight[tile][ky][kx][c][o]
        current, neuron, bits               (or: current to memory)

Time is proportional to the number of spikes. A zero weight costs as much as any other: N:M saves bytes here, not time.
A linear layer is the case of a kernel as large as its input. The sums are int16, which takes half the registers and
instructions of int32; where the weights do not prove that every sum fits, they are moved to int32 in time.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx

from spikenm_compile.lowering import tir
from spikenm_compile.lowering.kernels.event_list import EventList
from spikenm_compile.lowering.kernels.tile_output import TileOutput, output_params
from spikenm_compile.lowering.layout import Bits, Floats, Geometry, Rows, Tile
from spikenm_compile.lowering.tir import Buffer, Expr, T
from spikenm_compile.neurons import Neuron


@dataclass(frozen=True)
class EventRows:
    """One event-driven layer."""

    lists: EventList
    geometry: Geometry
    rows: Rows
    never_overflows: bool
    """Whether the weights prove that every sum fits int16."""
    out: Bits | Floats
    """Spikes, or the current."""
    neuron: Neuron | None
    """Fused neuron; None where `out` is the current."""


SAFE_EVENTS = 2**15 // 127 - 1
"""Rows of weights -127..127 that no int16 sum overflows on."""


def build_event_rows(name: str, layer: EventRows) -> list[tirx.PrimFunc]:
    """Kernel `(start, events, rows, scale, bias, [constants..., states...,] out, num_steps)`."""
    functions = list[tirx.PrimFunc]()
    params = [tir.Param("start", "int32"), tir.Param("events", layer.lists.dtype), tir.Param("rows", "int8")]
    params += output_params(layer.neuron, layer.out)
    with tir.kernel(name, params, functions) as (buffers, num_steps):
        start, events, rows, *rest = buffers
        for tile in layer.rows.loop():
            with T.serial(layer.out.height) as y, T.serial(layer.out.width) as x:
                output = TileOutput(tile, layer.out, layer.neuron, rest)
                output.load(y, x)
                with T.serial(num_steps) as t:
                    output.write(_sum_events(layer, tile, start, events, rows, t, y, x), t, y, x)
                output.save(y, x)
    return functions


def _sum_events(
    layer: EventRows, tile: Tile, start: Buffer, events: Buffer, rows: Buffer, t: Expr, y: Expr, x: Expr
) -> Buffer:
    """Σ of the weight rows of all events under the kernel at output (y, x)."""
    (kh, kw), (stride_y, stride_x), (pad_y, pad_x) = (
        layer.geometry.kernel,
        layer.geometry.stride,
        layer.geometry.padding,
    )
    lists, channels = layer.lists, layer.lists.spikes.channels
    halo = lists.spikes.halo
    column = x * stride_x + (halo - pad_x)
    sums = _Sums(tile, layer.never_overflows, events, rows)
    with T.serial(kh) as ky:
        row = (t * lists.rows + y * stride_y + ky + (halo - pad_y)) * (lists.columns + 1) + column
        sums.add_run(start[row], start[row + kw], ky * (kw * channels) - column * channels)
    return sums.total()


class _Sums:
    """Sums of weight rows in int16, moved to int32 before they can overflow."""

    def __init__(self, tile: Tile, never_overflows: bool, events: Buffer, rows: Buffer) -> None:
        self.tile, self.events, self.rows = tile, events, rows
        self.at = tir.lanes(0, tile.row)
        self.narrow = tir.local(tile.row, "int16")
        self._clear(self.narrow, "int16")
        self.wide = None if never_overflows else tir.local(tile.row, "int32")
        if self.wide is not None:
            self._clear(self.wide, "int32")
            self.left = tir.variable("int32", T.int32(SAFE_EVENTS))

    def _clear(self, buffer: Buffer, dtype: str) -> None:
        tir.store(buffer, self.at, tir.constant(dtype, self.tile.row, 0))

    def add_run(self, first: Expr, stop: Expr, channel: Expr) -> None:
        """Add the rows `channel` + event for the events first .. stop."""
        if self.wide is None:
            self._add(first, stop, channel)
            return
        done = tir.variable("int32", first)
        with T.While(done[0] < stop):
            until = tir.variable("int32", T.min(stop, done[0] + self.left[0]))
            self._add(done[0], until[0], channel)
            tir.store(self.left, 0, self.left[0] - (until[0] - done[0]))
            tir.store(done, 0, until[0])
            with T.If(self.left[0] == 0), T.Then():
                self._flush()

    def _add(self, first: Expr, stop: Expr, channel: Expr) -> None:
        row = self.tile.row
        with T.serial(first, stop) as i:
            weight = self.tile.offset + (channel + T.cast(self.events[i], "int32")) * row
            value = tir.cast("int16", row, self.rows[tir.lanes(weight, row)])
            tir.store(self.narrow, self.at, self.narrow[self.at] + value)

    def _flush(self) -> None:
        assert self.wide is not None
        tir.store(self.wide, self.at, self.wide[self.at] + tir.cast("int32", self.tile.row, self.narrow[self.at]))
        self._clear(self.narrow, "int16")
        tir.store(self.left, 0, T.int32(SAFE_EVENTS))

    def total(self) -> Buffer:
        """All that was added."""
        if self.wide is None:
            return self.narrow
        self._flush()
        return self.wide
