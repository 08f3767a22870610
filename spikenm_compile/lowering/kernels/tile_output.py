"""Where the sums of a tile of output channels go: through fused neurons to spikes, or as current to memory.

current = float32(sum) · scale + bias        rounded after the product, rounded after the sum
"""

from __future__ import annotations

from collections.abc import Sequence

from spikenm_compile.lowering import tir
from spikenm_compile.lowering.kernels.neuron_tile import NeuronBuffers, NeuronTile, neuron_params
from spikenm_compile.lowering.layout import Bits, Floats, Tile
from spikenm_compile.lowering.tir import Buffer, Expr
from spikenm_compile.neurons import Neuron


def output_params(neuron: Neuron | None, out: Bits | Floats) -> list[tir.Param]:
    """Kernel parameters behind the sums: scale, bias, [constants and states,] out."""
    rest = [tir.Param("current", "float32")] if neuron is None else neuron_params(neuron, out)
    return [tir.Param("scale", "float32"), tir.Param("bias", "float32"), *rest]


class TileOutput:
    """Writes the sums of one tile; `buffers` are those of `output_params`."""

    def __init__(self, tile: Tile, out: Bits | Floats, neuron: Neuron | None, buffers: Sequence[Buffer]) -> None:
        self.tile, self.out = tile, out
        self.scale, self.bias, *rest = buffers
        self.current = rest[-1]
        self.neurons: NeuronTile | None = None
        if neuron is not None:
            self.neurons = NeuronTile(neuron, out, tile.first, tile.width, NeuronBuffers.of(neuron, rest))

    def load(self, y: Expr, x: Expr) -> None:
        """Before the time loop."""
        if self.neurons is not None:
            self.neurons.load(y, x)

    def write(self, total: Expr, t: Expr, y: Expr, x: Expr, *, column: int = 0) -> None:
        """Inside the time loop: integer sums, lanes of `total` from a column on, to spikes or current of step t."""
        width, channels = self.tile.width, tir.lanes(self.tile.first, self.tile.width)
        product = tir.cast("float32", width, tir.part(total, column, width)) * self.scale[channels]
        current = tir.fence(product, width) + self.bias[channels]
        if self.neurons is not None:
            self.neurons.step([current], t, y, x)
            return
        tir.store(self.current, tir.lanes(self.out.at(t, y, x) + self.tile.first, width), current)

    def save(self, y: Expr, x: Expr) -> None:
        """After the time loop."""
        if self.neurons is not None:
            self.neurons.save(y, x)
