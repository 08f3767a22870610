"""Event-driven convolution: each spike adds one weight row to the sums of a tile of output channels.

    for tile, y, x:                         states of the tile stay in registers over t
      for t:
        sum = 0
        for ky, for event in the run of the taps kx:    sum[o] += weight[tile][ky][kx][c][o]
        current, neuron, bits               (or: current to memory)

Time is proportional to the number of spikes. A zero weight costs as much as any other: N:M saves bytes here, not time.
Staggered weights save time too: a set of slabs has tiles of its own, whose rows are 1/K' of all, and reads the list of
the one class of inputs that reaches it (lowering.stagger).

A linear layer is the case of a kernel as large as its input.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx

from spikenm_compile.lowering import tir
from spikenm_compile.lowering.kernels.event_list import EventList
from spikenm_compile.lowering.kernels.event_run import ROW_WORD, EventRun
from spikenm_compile.lowering.kernels.row_sums import ROW_SUMS, RowSource, words_of
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
    """Rows of one set of slabs: of all outputs, unless the weights are staggered."""
    never_overflows: bool
    """Whether the weights prove that every sum fits int16."""
    out: Bits | Floats
    """Spikes, or the current."""
    neuron: Neuron | None
    """Fused neuron; None where `out` is the current."""


def build_event_rows(name: str, layer: EventRows) -> list[tirx.PrimFunc]:
    """Kernel `(start, events, rows, scale, bias, [constants..., states...,] out, num_steps)`."""
    functions = list[tirx.PrimFunc]()
    params = [tir.Param("start", "int32"), tir.Param("events", layer.lists.dtype), tir.Param("rows", "int8")]
    params += output_params(layer.neuron, layer.out)
    with tir.kernel(name, params, functions) as (buffers, num_steps):
        start, events, rows, *rest = buffers
        for tile, number in layer.rows.loop_over(layer.lists.classes):
            source = RowSource(tile, layer.rows.format, layer.never_overflows, words_of(rows))
            with T.serial(layer.out.height) as y, T.serial(layer.out.width) as x:
                slabs = _slabs(layer, tile, number)
                outputs = [TileOutput(slab, layer.out, layer.neuron, rest) for slab in slabs]
                for output in outputs:
                    output.load(y, x)
                with T.serial(num_steps) as t:
                    sums = _sum_events(layer, source, number, start, events, t, y, x)
                    for i, output in enumerate(outputs):
                        output.write(sums, t, y, x, column=i * slabs[i].width)
                for output in outputs:
                    output.save(y, x)
    return functions


def _slabs(layer: EventRows, tile: Tile, number: Expr) -> list[Tile]:
    """The consecutive outputs of a tile: all of it, or its slabs."""
    stagger = layer.lists.stagger
    if stagger is None or stagger.pieces == 1:
        return [tile]
    width = layer.rows.outputs // stagger.pieces
    firsts = (stagger.output_of(number, i * width, width) for i in range(stagger.pieces))
    return [Tile(first, width, tile.row, tile.offset) for first in firsts]


def _sum_events(
    layer: EventRows, source: RowSource, number: Expr, start: Buffer, events: Buffer, t: Expr, y: Expr, x: Expr
) -> Expr:
    """Σ of the weight rows of all events under the kernel at output (y, x)."""
    lists, g = layer.lists, layer.geometry
    row = y * g.stride[0] + (lists.spikes.halo - g.padding[0])
    column = x * g.stride[1] + (lists.spikes.halo - g.padding[1])
    of_class = number if lists.stagger is None else lists.stagger.class_for(number, row, column)
    sums = ROW_SUMS[layer.rows.format](source)
    row_words, most = source.tile.row // ROW_WORD, layer.rows.num_rows * lists.spikes.most
    run = EventRun(events, layer.rows.num_rows, row_words, most, sums.room, sums.add, sums.unrolled)
    # the taps of a kernel row are one run, or one each where dilation parts them
    runs, taps = (1, g.kernel[1]) if g.dilation[1] == 1 else (g.kernel[1], 1)
    with T.serial(g.kernel[0]) as ky, T.serial(runs) as kx:
        x_in = column + kx * g.dilation[1]
        pixel = (t * lists.rows + row + ky * g.dilation[0]) * (lists.columns + 1) + x_in
        first, stop = (start[(pixel + step) * lists.classes + of_class] for step in (0, taps))
        run.add(first, stop, (ky * g.kernel[1] + kx - x_in) * lists.stride)
    run.finish()
    return sums.total()
