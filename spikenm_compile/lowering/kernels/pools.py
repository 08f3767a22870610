"""Max pooling of spikes, counts and currents, sum pooling of whole numbers."""

from __future__ import annotations

from tvm import tirx

from spikenm_compile.lowering import tir
from spikenm_compile.lowering.kernels.bit_joins import UnaryCounts
from spikenm_compile.lowering.kernels.values import loop, read
from spikenm_compile.lowering.layout import Bits, Bytes, Floats, Geometry
from spikenm_compile.lowering.tir import Expr, T


def build_max_pool_bits(name: str, spikes: Bits, g: Geometry, out: Bits) -> list[tirx.PrimFunc]:
    """Kernel `(spikes, out, num_steps)`: the maximum of counts is the OR of their bits; the halo is the padding."""
    functions = list[tirx.PrimFunc]()
    params = [tir.Param("spikes", "uint64"), tir.Param("out", "uint64")]
    words_of_pixel = Floats(out.height, out.width, out.pixel)
    with tir.kernel(name, params, functions) as ((words, pooled), num_steps):
        with loop(words_of_pixel, num_steps) as (t, row, column, i):
            word = tir.variable("uint64", T.uint64(0))
            with T.serial(g.kernel[0]) as ky, T.serial(g.kernel[1]) as kx:
                source = spikes.at(t, _input(row, ky, g, 0), _input(column, kx, g, 1)) + i
                tir.store(word, 0, word[0] | words[source])
            tir.store(pooled, out.at(t, row, column) + i, word[0])
    return functions


def build_sum_pool_bits(name: str, spikes: Bits, g: Geometry, out: Bits) -> list[tirx.PrimFunc]:
    """Kernel `(spikes, out, num_steps)`: sums of spikes and counts, in unary; the halo is the padding."""
    functions = list[tirx.PrimFunc]()
    params = [tir.Param("spikes", "uint64"), tir.Param("out", "uint64")]
    with tir.kernel(name, params, functions) as ((words, pooled), num_steps):
        with loop(Floats(out.height, out.width, out.words), num_steps) as (t, row, column, i):
            count = UnaryCounts(out)
            with T.serial(g.kernel[0]) as ky, T.serial(g.kernel[1]) as kx:
                count.add_all(spikes, words, spikes.at(t, _input(row, ky, g, 0), _input(column, kx, g, 1)) + i)
            count.write(pooled, out.at(t, row, column) + i)
    return functions


def build_sum_pool(name: str, x: Bits | Bytes, g: Geometry, out: Bytes) -> list[tirx.PrimFunc]:
    """Kernel `(x, out, num_steps)`: sum of the whole numbers inside the image."""
    functions = list[tirx.PrimFunc]()
    params = [tir.Param("x", x.dtype), tir.Param("out", out.dtype)]
    with tir.kernel(name, params, functions) as ((values, pooled), num_steps):
        with loop(out, num_steps) as (t, row, column, c):
            total = tir.variable("int32", T.int32(0))
            with T.serial(g.kernel[0]) as ky, T.serial(g.kernel[1]) as kx:
                y, x_ = _input(row, ky, g, 0), _input(column, kx, g, 1)
                with T.If(tirx.all(y >= 0, y < x.height, x_ >= 0, x_ < x.width)), T.Then():
                    tir.store(total, 0, total[0] + read(x, values, t, y, x_, c, "int32"))
            tir.store(pooled, out.element(t, row, column, c), T.cast(total[0], out.dtype))
    return functions


def build_max_pool_floats(name: str, x: Floats, g: Geometry, out: Floats) -> list[tirx.PrimFunc]:
    """Kernel `(x, out, num_steps)`: maximum of the currents inside the image."""
    functions = list[tirx.PrimFunc]()
    params = [tir.Param("x", "float32"), tir.Param("out", "float32")]
    with tir.kernel(name, params, functions) as ((current, pooled), num_steps):
        with loop(out, num_steps) as (t, row, column, c):
            best = tir.variable("float32", tirx.const(-float("inf"), "float32"))
            with T.serial(g.kernel[0]) as ky, T.serial(g.kernel[1]) as kx:
                y, x_ = _input(row, ky, g, 0), _input(column, kx, g, 1)
                with T.If(tirx.all(y >= 0, y < x.height, x_ >= 0, x_ < x.width)), T.Then():
                    value = current[x.element(t, y, x_, c)]
                    tir.store(best, 0, tir.select(value > best[0], value, best[0]))
            tir.store(pooled, out.element(t, row, column, c), best[0])
    return functions


def _input(position: Expr, tap: Expr, g: Geometry, axis: int) -> Expr:
    return position * g.stride[axis] + tap * g.dilation[axis] - g.padding[axis]
