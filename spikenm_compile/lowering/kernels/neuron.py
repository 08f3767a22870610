"""A layer of neurons on its own: behind a current that was computed once for all steps, a pool or a join."""

from __future__ import annotations

from tvm import tirx

from spikenm_compile.lowering import tir
from spikenm_compile.lowering.kernels import epilogue
from spikenm_compile.lowering.kernels.tile_output import byte_at
from spikenm_compile.lowering.kernels.values import Operand
from spikenm_compile.lowering.layout import Bits
from spikenm_compile.lowering.tir import T
from spikenm_compile.neurons import Neuron


def build_neuron(name: str, neuron: Neuron, x: Operand, out: Bits, width: int) -> list[tirx.PrimFunc]:
    """Kernel `(x, v, spikes, num_steps)`: float32 current to bits, `width` neurons at a time (a multiple of 8)."""
    functions = list[tirx.PrimFunc]()
    params = [tir.Param("x", "float32"), tir.Param("v", "float32"), tir.Param("spikes", "uint8")]
    with tir.kernel(name, params, functions) as ((current, v, spikes), num_steps):
        with T.serial(out.height) as row, T.serial(out.width) as column:
            for first in range(0, out.channels, width):
                count = min(width, out.channels - first)
                at, here = tir.lanes(0, count), tir.lanes(x.layout.at(0, row, column) + first, count)
                potential, flags = tir.local(count, "float32"), tir.local(epilogue.flags_size(count), "uint8")
                tir.store(potential, at, v[here])
                epilogue.clear_flags(flags, count)
                with T.serial(num_steps) as t:
                    source = tir.lanes(x.layout.at(x.time(t), row, column) + first, count)
                    epilogue.neuron_step(current[source], potential, flags, neuron, count)
                    epilogue.store_bits(flags, count, spikes, byte_at(out, t, row, column, first))
                tir.store(v, here, potential[at])
    return functions
