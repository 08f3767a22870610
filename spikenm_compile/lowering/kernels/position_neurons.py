"""What becomes of the sums of one output channel at consecutive positions: spikes of fused neurons, or currents.

Lanes are positions here, so that what belongs to a channel is the same in all of them. States and currents lie in the
user's order, [C][y][x]. Spikes are gathered in bytes [⌈C/8⌉][t][y][x], one bit for each of eight channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spikenm_compile.lowering import tir
from spikenm_compile.lowering.kernels.neuron_tile import NeuronBuffers, NeuronTile
from spikenm_compile.lowering.layout import Planes
from spikenm_compile.lowering.tir import Buffer, Expr, T
from spikenm_compile.neurons import Neuron


@dataclass(frozen=True)
class SpikeBytes:
    """Spikes of a layer on their way to words."""

    channels: int
    positions: int
    max_steps: int

    @property
    def stride(self) -> int:
        """Bytes from plane to plane."""
        return self.max_steps * self.positions

    @property
    def planes(self) -> int:
        """Bytes of a position."""
        return -(-self.channels // 8)

    @property
    def num_bytes(self) -> int:
        """Size of all planes."""
        return self.planes * self.stride

    def at(self, plane: Expr, t: Expr, position: Expr) -> Expr:
        """Index of a byte."""
        return plane * self.stride + t * self.positions + position


class PositionNeurons(NeuronTile):
    """The neurons of one channel at `width` positions.

    Args:
        neuron: the equations.
        spikes: where spikes are gathered; the bytes are zero before the first channel.
        channel: number of the channel.
        width: number of positions.
        buffers: constants, states, bytes of spikes.
    """

    def __init__(
        self, neuron: Neuron, spikes: SpikeBytes, channel: Expr, width: int, buffers: Sequence[Buffer]
    ) -> None:
        super().__init__(neuron, Planes(1, spikes.positions, 1), channel, width, NeuronBuffers.of(neuron, buffers))
        self.spikes = spikes

    def _constant(self, buffer: Buffer) -> Expr:
        return tir.splat(buffer[self.first], self.width)

    def _state_at(self, y: Expr, x: Expr) -> Expr:
        return tir.lanes(self.first * self.spikes.positions + x, self.width)

    def _write(self, value: Expr, t: Expr, y: Expr, x: Expr) -> None:
        at = tir.lanes(self.spikes.at(self.first // 8, t, x), self.width)
        bit = tir.splat(T.cast(T.shift_left(T.int32(1), self.first % 8), "uint8"), self.width)
        is_silent = tir.equal(value, tir.constant("float32", self.width, 0.0))
        spike = tir.select(is_silent, tir.constant("uint8", self.width, 0), bit)
        tir.store(self.buffers.out, at, T.bitwise_or(self.buffers.out[at], spike))
