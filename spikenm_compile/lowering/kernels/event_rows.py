"""Event-driven convolution: each spike adds one int8 weight row to the sums of a tile of output channels.

    for tile, y, x:                         v of the tile stays in registers over t
      for t:
        sum = 0
        for ky, for event in the run of the taps kx:    sum[o] += weight[tile][ky][kx][c][o]
        current, neuron, bits               (or: current to memory)

Time is proportional to the number of spikes. A zero weight costs as much as any other: N:M saves bytes here, not time.
A linear layer is the case of a kernel as large as its input. The sums are int16 where the weights prove that no input
can overflow them (`accumulator`), which halves the registers.
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
    accumulator: str
    """int16 or int32."""
    out: Bits | Floats
    """Spikes, or the current."""
    neuron: Neuron | None
    """Fused neuron; None where `out` is the current."""


def accumulator(largest_sum: int) -> str:
    """Narrowest type that no sum of at most this magnitude overflows."""
    return "int16" if largest_sum < 2**15 else "int32"


def build_event_rows(name: str, layer: EventRows) -> list[tirx.PrimFunc]:
    """Kernel `(start, events, rows, scale, bias, [v,] out, num_steps)`; `out` as uint8 for spikes, float32 else."""
    functions = list[tirx.PrimFunc]()
    params = [tir.Param("start", "int32"), tir.Param("events", layer.lists.dtype), tir.Param("rows", "int8")]
    params += [tir.Param("scale", "float32"), tir.Param("bias", "float32")]
    params += output_params(layer.neuron)
    with tir.kernel(name, params, functions) as (buffers, num_steps):
        start, events, rows, scale, bias, *outputs = buffers
        for tile in layer.rows.loop():
            with T.serial(layer.out.height) as y, T.serial(layer.out.width) as x:
                output = TileOutput(tile, layer.out, layer.neuron, scale, bias, outputs)
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
    lists, channels, at = layer.lists, layer.lists.spikes.channels, tir.lanes(0, tile.row)
    halo = lists.spikes.halo
    total = tir.local(tile.row, layer.accumulator)
    tir.store(total, at, tir.constant(layer.accumulator, tile.row, 0))
    column = x * stride_x + (halo - pad_x)
    with T.serial(kh) as ky:
        row = (t * lists.rows + y * stride_y + ky + (halo - pad_y)) * (lists.columns + 1) + column
        first_channel = ky * (kw * channels) - column * channels
        with T.serial(start[row], start[row + kw]) as i:
            weight = tile.offset + (first_channel + T.cast(events[i], "int32")) * tile.row
            tir.store(total, at, total[at] + tir.cast(layer.accumulator, tile.row, rows[tir.lanes(weight, tile.row)]))
    return total
