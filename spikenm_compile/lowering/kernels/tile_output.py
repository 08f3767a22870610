"""Where the sums of a tile of output channels go: through fused neurons to spikes, or as current to memory.

current = float32(sum) · scale + bias        rounded after the product, rounded after the sum
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from spikenm_compile.costs.row_shapes import power_of_two
from spikenm_compile.lowering import tir
from spikenm_compile.lowering.kernels.bit_positions import BYTE
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
        self.pieces = [_Piece(tile.first + at, at, width, out, neuron, buffers) for at, width in _parted(tile.width)]

    def load(self, y: Expr, x: Expr) -> None:
        """Before the time loop."""
        for piece in self.pieces:
            if piece.neurons is not None:
                piece.neurons.load(y, x)

    def write(self, total: Expr, t: Expr, y: Expr, x: Expr, *, column: int = 0) -> None:
        """Inside the time loop: integer sums, lanes of `total` from a column on, to spikes or current of step t."""
        for piece in self.pieces:
            piece.write(tir.part(total, column + piece.column, piece.width), t, y, x)

    def save(self, y: Expr, x: Expr) -> None:
        """After the time loop."""
        for piece in self.pieces:
            if piece.neurons is not None:
                piece.neurons.save(y, x)


def _parted(width: int) -> Iterator[tuple[int, int]]:
    """(first, width) of the largest powers of two that a width consists of, down to whole bytes of spikes."""
    first = 0
    while width - first > BYTE:
        size = power_of_two(width - first)
        yield first, size
        first += size
    if first < width:
        yield first, width - first


class _Piece:
    """Consecutive outputs of a tile: so many that LLVM need not take their vectors apart."""

    def __init__(
        self, first: Expr, column: int, width: int, out: Bits | Floats, neuron: Neuron | None, buffers: Sequence[Buffer]
    ) -> None:
        self.first, self.column, self.width, self.out = first, column, width, out
        self.scale, self.bias, *rest = buffers
        self.current = rest[-1]
        self.neurons: NeuronTile | None = None
        if neuron is not None:
            self.neurons = NeuronTile(neuron, out, first, width, NeuronBuffers.of(neuron, rest))

    def write(self, sums: Expr, t: Expr, y: Expr, x: Expr) -> None:
        """Integer sums to spikes or current of step t."""
        width, channels = self.width, tir.lanes(self.first, self.width)
        current = tir.fence(tir.cast("float32", width, sums) * self.scale[channels], width) + self.bias[channels]
        if self.neurons is not None:
            self.neurons.step([current], t, y, x)
            return
        tir.store(self.current, tir.lanes(self.out.at(t, y, x) + self.first, width), current)
