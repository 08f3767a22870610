"""What a warp does with its sums: currents, neurons over the time steps in registers, and the output to memory.

Sum r of (row tile m, column n) in lane 4g + i is output 16m + 8·(r // 2) + g at position 8n + 2i + r % 2.
A word of spikes has the bits of eight lanes g, of two row tiles and two halves: it comes together by three shuffles.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx

from spikenm_compile.lowering.cuda import device
from spikenm_compile.lowering.cuda.conv_copies import Tile
from spikenm_compile.lowering.cuda.device import Buffer, Expr, T
from spikenm_compile.lowering.cuda.fragments import ROWS
from spikenm_compile.lowering.cuda.neuron_steps import NeuronSteps
from spikenm_compile.lowering.cuda.tensors import LevelBytes, Reals, SpikeWords
from spikenm_compile.lowering.cuda.tiling import COLUMNS


@dataclass(frozen=True)
class Pixel:
    """One position of a lane."""

    b: Expr
    y: Expr
    x: Expr
    exists: Expr


class Output:
    """The end of a kernel for one block of time steps."""

    def __init__(self, tile: Tile, accumulators: Buffer) -> None:
        self.tile, self.sums = tile, accumulators
        self.spec, self.tiling, self.buffers = tile.spec, tile.tiling, tile.body.buffers
        thread = tile.body.thread
        self.lane = thread % 32
        self.warp_m = thread // 32 % self.tiling.warps_m
        self.warp_n = thread // 32 // self.tiling.warps_m
        neuron, out = self.spec.neuron, self.spec.out
        size = Reals(out.height, out.width, out.channels)
        self.neurons = NeuronSteps(neuron, self.buffers, size) if neuron is not None else None
        self.words: Buffer | None = None
        if isinstance(out, SpikeWords):
            self.words = device.local("words", self._word(self.tiling.columns, 0, 0, 0), "uint32")

    def write(self, first_step: Expr) -> None:
        """Write all sums of steps from `first_step` on."""
        tiling = self.tiling
        if self.words is not None:
            for index in range(self._word(tiling.columns, 0, 0, 0)):
                device.store(self.words, index, T.uint32(0))
        device.unrolled(
            tiling.columns,
            2,
            tiling.row_tiles,
            2,
            body=lambda column, side, row_tile, half: self._neuron(column, side, row_tile, half, first_step),
        )
        if self.words is not None:
            device.unrolled(
                tiling.columns,
                2,
                tiling.steps,
                tiling.row_tiles // 2,
                body=lambda column, side, t, word: self._store_word(column, side, t, word, first_step),
            )

    def _pixel(self, column: int, side: int) -> Pixel:
        """The pixel of one of the lane's positions."""
        tiling, out, body = self.tiling, self.spec.out, self.tile.body
        position = (self.warp_n * tiling.columns + column) * COLUMNS + self.lane % 4 * 2 + side
        at = position // tiling.width
        b = body.samples + at // tiling.rows
        y, x = self.tile.row + at % tiling.rows, self.tile.column + position % tiling.width
        exists = tirx.all(position < tiling.positions, b < body.batch, y < out.height, x < out.width)
        return Pixel(b, y, x, exists)

    def _neuron(self, column: int, side: int, row_tile: int, half: int, first_step: Expr) -> None:
        """All steps of one output channel at one position."""
        pixel, out = self._pixel(column, side), self.spec.out
        c = self._first_channel() + (row_tile * ROWS + half * 8) + self.lane // 4
        with device.when(pixel.exists, c < out.channels):
            scale = device.variable("channel_scale", "float32", self.buffers["scale"][c])
            bias = device.variable("channel_bias", "float32", self.buffers["bias"][c])
            if self.neurons is not None:
                self.neurons.load(pixel.b, pixel.y, pixel.x, c)
            for t in range(self.tiling.steps):
                register = ((row_tile * self.tiling.columns + column) * self.tiling.steps + t) * 4 + half * 2 + side
                total = T.cast(T.reinterpret("int32", self.sums[register]), "float32")
                current = device.variable("current", "float32", total * scale[0])
                device.store(current, 0, current[0] + bias[0])
                value = current[0] if self.neurons is None else self.neurons.step((current[0],))
                if self.words is None:
                    self._store(value, pixel, c, first_step + t)
                else:
                    index = self._word(column, side, t, row_tile // 2)
                    bit = self.lane // 4 % 4 * 8 + self.lane // 16 + (row_tile % 2 * 4 + half * 2)
                    spike = tirx.Select(value > T.float32(0), T.uint32(1), T.uint32(0))
                    device.store(self.words, index, self.words[index] | (spike << T.cast(bit, "uint32")))
            if self.neurons is not None:
                self.neurons.save(pixel.b, pixel.y, pixel.x, c)

    def _first_channel(self) -> Expr:
        """First output channel of the warp; blocks of outputs do not cross channel groups."""
        return self.tile.body.row * self.tiling.outputs + self.warp_m * (self.tiling.row_tiles * ROWS)

    def _store(self, value: Expr, pixel: Pixel, c: Expr, t: Expr) -> None:
        out = self.spec.out
        if isinstance(out, LevelBytes):
            value = T.cast(T.cast(value, "int32"), out.dtype)
        device.store(self.buffers["out"], out.at(pixel.b, pixel.y, pixel.x, t) + c, value)

    def _word(self, column: int, side: int, t: int, word: int) -> int:
        """Register of a word of spikes."""
        return ((column * 2 + side) * self.tiling.steps + t) * (self.tiling.row_tiles // 2) + word

    def _store_word(self, column: int, side: int, t: int, word: int, first_step: Expr) -> None:
        """Put one word together; of the eight lanes that have it then, one writes it."""
        pixel, out = self._pixel(column, side), self.spec.out
        index = self._word(column, side, t, word)
        assert self.words is not None
        for lanes in (4, 8, 16):
            device.store(self.words, index, self.words[index] | device.shuffle_xor(self.words[index], lanes))
        unit = self._first_channel() // 32 + word
        with device.when(pixel.exists, unit < out.units, tirx.EQ(self.lane // 4, index % 8)):
            at = out.at(pixel.b, pixel.y, pixel.x, first_step + t) + unit
            device.store(self.buffers["out"], at, self.words[index])
