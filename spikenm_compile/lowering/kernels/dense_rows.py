"""Dense convolution of levels (uint8 or int8): takes any integer input, groups and dilation included.

    for group, tile, y, x, t:    sum[o] = Σ over runs, pairs of  level · weight[tile][run][pair][o][0]
                                                               + next level · weight[tile][run][pair][o][1]

A run is inputs of an output that lie one behind the other in memory: a kernel row of all channels, or a tap where
groups or dilation part the taps. Weight rows stand in the tiles of the event-driven family, one set of tiles per group.

Of a depthwise convolution, lanes are channels on both sides:

    for tile, y, x, t:           sum[c] = Σ over taps of  level[c] · weight[tile][tap][c]
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx

from spikenm_compile.lowering import tir
from spikenm_compile.lowering.kernels.tile_output import TileOutput, output_params
from spikenm_compile.lowering.layout import Bits, Bytes, Floats, Geometry, Rows, Tile
from spikenm_compile.lowering.pair_products import pair_products
from spikenm_compile.lowering.tir import Buffer, Expr, T
from spikenm_compile.neurons import Neuron


@dataclass(frozen=True)
class DenseRows:
    """One dense layer."""

    levels: Bytes
    geometry: Geometry
    rows: Rows
    """Rows of one group, or of all channels of a depthwise convolution."""
    groups: int
    """Sets of rows."""
    is_depthwise: bool
    never_overflows: bool
    """Whether the weights prove that every sum fits int16."""
    out: Bits | Floats
    neuron: Neuron | None


def build_dense_rows(name: str, layer: DenseRows) -> list[tirx.PrimFunc]:
    """Kernel `(levels, rows, scale, bias, [constants..., states...,] out, num_steps)`."""
    functions = list[tirx.PrimFunc]()
    params = [tir.Param("levels", layer.levels.dtype), tir.Param("rows", "int8")]
    params += output_params(layer.neuron, layer.out)
    sum_up = _sum_channels if layer.is_depthwise else _sum_pairs
    with tir.kernel(name, params, functions) as (buffers, num_steps):
        levels, rows, *rest = buffers
        for tile, group in layer.rows.loop_over(layer.groups):
            with T.serial(layer.out.height) as y, T.serial(layer.out.width) as x:
                output = TileOutput(tile, layer.out, layer.neuron, rest)
                output.load(y, x)
                with T.serial(num_steps) as t:
                    output.write(sum_up(layer, tile, group, levels, rows, t, y, x), t, y, x)
                output.save(y, x)
    return functions


def _sum_pairs(
    layer: DenseRows, tile: Tile, group: Expr, levels: Buffer, rows: Buffer, t: Expr, y: Expr, x: Expr
) -> Expr:
    """Σ weight · level under the kernel at output (y, x)."""
    columns, of = layer.rows.format.columns(tile.row), layer.rows
    total = _zeros("int32", columns)
    at = tir.lanes(0, columns)

    def add(row: Expr, first: Expr, second: Expr) -> None:
        weights = tir.cast("int16", tile.row, rows[tir.lanes(tile.offset + row * tile.row, tile.row)])
        tir.store(total, at, total[at] + pair_products(weights, first, second, columns))

    runs_of_row = of.num_runs // layer.geometry.kernel[0]
    with T.serial(layer.geometry.kernel[0]) as ky, T.serial(runs_of_row) as kx:
        first = _pixel(layer, t, y, x, ky, kx) + group * of.channels
        row = (ky * runs_of_row + kx) * of.run_rows
        with T.serial(of.run // 2) as pair:
            add(row + pair, *(T.cast(levels[first + pair * 2 + i], "int32") for i in range(2)))
        if of.run % 2:
            add(row + of.run // 2, T.cast(levels[first + of.run - 1], "int32"), T.int32(0))
    return total[at]


def _sum_channels(
    layer: DenseRows, tile: Tile, _group: Expr, levels: Buffer, rows: Buffer, t: Expr, y: Expr, x: Expr
) -> Expr:
    """Σ weight · level of each channel under the kernel at output (y, x)."""
    dtype, width = "int16" if layer.never_overflows else "int32", tile.width
    total = _zeros(dtype, width)
    at, kernel_width = tir.lanes(0, width), layer.geometry.kernel[1]
    with T.serial(layer.geometry.kernel[0]) as ky, T.serial(kernel_width) as kx:
        level = levels[tir.lanes(_pixel(layer, t, y, x, ky, kx) + tile.first, width)]
        weight = rows[tir.lanes(tile.offset + (ky * kernel_width + kx) * tile.row, width)]
        tir.store(total, at, total[at] + tir.cast(dtype, width, level) * tir.cast(dtype, width, weight))
    return total[at]


def _zeros(dtype: str, count: int) -> Buffer:
    total = tir.local(count, dtype)
    tir.store(total, tir.lanes(0, count), tir.constant(dtype, count, 0))
    return total


def _pixel(layer: DenseRows, t: Expr, y: Expr, x: Expr, ky: Expr, kx: Expr) -> Expr:
    """Index of the first level of the pixel under a tap at output (y, x)."""
    g = layer.geometry
    in_y = y * g.stride[0] + ky * g.dilation[0] - g.padding[0]
    in_x = x * g.stride[1] + kx * g.dilation[1] - g.padding[1]
    return layer.levels.at(t, in_y, in_x)
