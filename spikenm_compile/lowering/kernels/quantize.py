"""Real input to levels: round to nearest, ties to even, saturate; the equation is ops.quantize."""

from __future__ import annotations

from tvm import tirx

from spikenm_compile.lowering import tir
from spikenm_compile.lowering.kernels.values import loop
from spikenm_compile.lowering.layout import Bytes, Planes
from spikenm_compile.lowering.tir import T
from spikenm_compile.ops import Levels


def build_quantize(name: str, source: Planes, levels: Levels, out: Bytes) -> list[tirx.PrimFunc]:
    """Kernel `(x, out, num_steps)`: float32 in the user's order to one byte per value."""
    functions = list[tirx.PrimFunc]()
    params = [tir.Param("x", "float32"), tir.Param("out", out.dtype)]
    low, high = float(levels.low), float(levels.high)
    with tir.kernel(name, params, functions) as ((values, q), num_steps), loop(out, num_steps) as (t, y, x, c):
        ratio = values[source.element(t, y, x, c)] / T.float32(levels.scale)
        value = tir.variable("float32", tir.round_half_even(ratio))
        # In this order a NaN becomes the lowest level, as in the reference.
        tir.store(value, 0, tir.select(value[0] > T.float32(low), value[0], T.float32(low)))
        tir.store(value, 0, tir.select(value[0] < T.float32(high), value[0], T.float32(high)))
        tir.store(q, out.element(t, y, x, c), T.cast(T.cast(value[0], "int32"), out.dtype))
    return functions
