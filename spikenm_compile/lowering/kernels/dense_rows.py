"""Dense convolution of levels (uint8 or int8): the fallback that takes any integer input, groups and dilation included.

    for group, tile, y, x, t:    sum[o] = Σ over ky, kx, c of  level[y][x][c] · weight[tile][ky][kx][c][o]

Weight rows stand in the tiles of the event-driven family, uncoded, one set of tiles per group.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx

from spikenm_compile.lowering import tir
from spikenm_compile.lowering.kernels.tile_output import TileOutput, output_params
from spikenm_compile.lowering.layout import Bits, Bytes, Floats, Geometry, Rows, Tile
from spikenm_compile.lowering.tir import Buffer, Expr, T
from spikenm_compile.neurons import Neuron


@dataclass(frozen=True)
class DenseRows:
    """One dense layer."""

    levels: Bytes
    geometry: Geometry
    rows: Rows
    """Rows of one group."""
    groups: int
    out: Bits | Floats
    neuron: Neuron | None


def build_dense_rows(name: str, layer: DenseRows) -> list[tirx.PrimFunc]:
    """Kernel `(levels, rows, scale, bias, [constants..., states...,] out, num_steps)`."""
    functions = list[tirx.PrimFunc]()
    params = [tir.Param("levels", layer.levels.dtype), tir.Param("rows", "int8")]
    params += output_params(layer.neuron, layer.out)
    with tir.kernel(name, params, functions) as (buffers, num_steps):
        levels, rows, *rest = buffers
        for tile, group in layer.rows.loop_over(layer.groups):
            with T.serial(layer.out.height) as y, T.serial(layer.out.width) as x:
                output = TileOutput(tile, layer.out, layer.neuron, rest)
                output.load(y, x)
                with T.serial(num_steps) as t:
                    output.write(_sum_levels(layer, tile, group, levels, rows, t, y, x), t, y, x)
                output.save(y, x)
    return functions


def _sum_levels(
    layer: DenseRows, tile: Tile, group: Expr, levels: Buffer, rows: Buffer, t: Expr, y: Expr, x: Expr
) -> Expr:
    """Σ weight · level under the kernel at output (y, x)."""
    g, at = layer.geometry, tir.lanes(0, tile.row)
    channels = layer.rows.channels
    total = tir.local(tile.row, "int32")
    tir.store(total, at, tir.constant("int32", tile.row, 0))
    with T.serial(g.kernel[0]) as ky, T.serial(g.kernel[1]) as kx:
        in_y = y * g.stride[0] + ky * g.dilation[0] - g.padding[0]
        in_x = x * g.stride[1] + kx * g.dilation[1] - g.padding[1]
        first = layer.levels.at(t, in_y, in_x) + group * channels
        tap = tile.offset + (ky * g.kernel[1] + kx) * channels * tile.row
        with T.serial(channels) as c:
            level = tir.splat(T.cast(levels[first + c], "int32"), tile.row)
            weight = tir.cast("int32", tile.row, rows[tir.lanes(tap + c * tile.row, tile.row)])
            tir.store(total, at, total[at] + level * weight)
    return total[at]
