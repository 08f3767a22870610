"""Where the sums of a tile of output channels go: through a fused neuron to bits in memory, or as current to memory.

with neuron:     v of the tile is loaded once, stays in registers over t, and is saved once
without:         float32 current, [t][y][x][channel]
"""

from __future__ import annotations

from collections.abc import Sequence

from spikenm_compile.lowering import tir
from spikenm_compile.lowering.kernels import epilogue
from spikenm_compile.lowering.layout import Bits, Floats, Tile
from spikenm_compile.lowering.tir import Buffer, Expr
from spikenm_compile.neurons import Neuron


def output_params(neuron: Neuron | None) -> list[tir.Param]:
    """Kernel parameters for the outputs."""
    if neuron is None:
        return [tir.Param("current", "float32")]
    return [tir.Param("v", "float32"), tir.Param("spikes", "uint8")]


def byte_at(spikes: Bits, t: Expr, y: Expr, x: Expr, channel: Expr) -> Expr:
    """Index, in bytes, of the spike of `channel`, a multiple of 8: words are little-endian."""
    return spikes.at(t, y, x) * 8 + channel // 8


class TileOutput:
    """Writes the sums of one tile at one output pixel."""

    def __init__(
        self,
        tile: Tile,
        out: Bits | Floats,
        neuron: Neuron | None,
        scale: Buffer,
        bias: Buffer,
        outputs: Sequence[Buffer],
    ) -> None:
        self.tile, self.out, self.neuron = tile, out, neuron
        self.scale, self.bias, self.outputs = scale, bias, outputs
        if neuron is not None:
            self.v = tir.local(tile.width, "float32")
            self.flags = tir.local(epilogue.flags_size(tile.width), "uint8")

    def _v_at(self, y: Expr, x: Expr) -> Expr:
        pixel = y * self.out.width + x
        return tir.lanes(pixel * self.out.channels + self.tile.first, self.tile.width)

    def load(self, y: Expr, x: Expr) -> None:
        """Before the time loop."""
        if self.neuron is not None:
            tir.store(self.v, tir.lanes(0, self.tile.width), self.outputs[0][self._v_at(y, x)])
            epilogue.clear_flags(self.flags, self.tile.width)

    def write(self, total: Buffer, t: Expr, y: Expr, x: Expr) -> None:
        """Inside the time loop: integer sums of the tile to spikes or current of step t."""
        width, channels = self.tile.width, tir.lanes(self.tile.first, self.tile.width)
        current = epilogue.current(total[tir.lanes(0, width)], self.scale[channels], self.bias[channels], width)
        if self.neuron is None:
            tir.store(self.outputs[0], tir.lanes(self.out.at(t, y, x) + self.tile.first, width), current)
            return
        assert isinstance(self.out, Bits)
        epilogue.neuron_step(current, self.v, self.flags, self.neuron, width)
        epilogue.store_bits(self.flags, width, self.outputs[1], byte_at(self.out, t, y, x, self.tile.first))

    def save(self, y: Expr, x: Expr) -> None:
        """After the time loop."""
        if self.neuron is not None:
            tir.store(self.outputs[0], self._v_at(y, x), self.v[tir.lanes(0, self.tile.width)])
