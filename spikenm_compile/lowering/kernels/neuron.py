"""A layer of neurons on its own: behind a current that was computed once for all steps, a pool or a join."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tvm import tirx

from spikenm_compile.lowering import tir
from spikenm_compile.lowering.kernels.neuron_tile import NeuronBuffers, NeuronTile, Output, neuron_params
from spikenm_compile.lowering.kernels.values import Operand
from spikenm_compile.lowering.tir import Expr, T
from spikenm_compile.neurons import Neuron


def build_neuron(name: str, neuron: Neuron, inputs: Sequence[Operand], out: Output, width: int) -> list[tirx.PrimFunc]:
    """Kernel `(inputs..., constants..., states..., out, num_steps)`: `width` neurons at a time (a multiple of 8)."""
    functions = list[tirx.PrimFunc]()
    params = [*(tir.Param(current, "float32") for current in neuron.inputs), *neuron_params(neuron, out)]
    with tir.kernel(name, params, functions) as (given, num_steps):
        currents, buffers = given[: len(inputs)], NeuronBuffers.of(neuron, given[len(inputs) :])
        with T.serial(out.height) as row, T.serial(out.width) as column:
            for first, count in _tiles(out.channels, width):
                tile = NeuronTile(neuron, out, first, count, buffers)
                tile.load(row, column)
                with T.serial(num_steps) as t:
                    sources = (x.layout.at(x.time(t), row, column) + first for x in inputs)
                    at_t = [c[tir.lanes(at, count)] for c, at in zip(currents, sources, strict=True)]
                    tile.step(at_t, t, row, column)
                tile.save(row, column)
    return functions


def _tiles(channels: int, width: int) -> Iterator[tuple[Expr, int]]:
    """(first channel, number of channels): a loop over the full tiles, then the tail."""
    if channels >= width:
        with T.serial(channels // width) as index:
            yield index * width, width
    if channels % width:
        yield T.int32(channels // width * width), channels % width
