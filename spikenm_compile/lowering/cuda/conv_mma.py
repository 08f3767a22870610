"""Convolution on tensor cores: implicit matrix multiplication of int8 weights by spikes or levels, neurons behind it.

    for each block of time steps
        for each chunk of input channels       levels to shared memory
            for each stage of weights          a ring of stages, filled by asynchronous copies
                sums += weights · levels       mma.sp m16n8k64 where the weights are 2:4, else mma m16n8k32
        currents, neurons, output

The sums are exact in int32, so that the order of additions does not matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx

from spikenm_compile.lowering.cuda import device
from spikenm_compile.lowering.cuda.conv_copies import Tile
from spikenm_compile.lowering.cuda.conv_output import Output
from spikenm_compile.lowering.cuda.device import Buffer, Expr, T
from spikenm_compile.lowering.cuda.fragments import pack_fragments
from spikenm_compile.lowering.cuda.generated import GeneratedKernel, Grid
from spikenm_compile.lowering.cuda.neuron_steps import neuron_params
from spikenm_compile.lowering.cuda.specs import ConvSpec
from spikenm_compile.lowering.cuda.staging import NUM_STAGES, shared_words, staged
from spikenm_compile.lowering.cuda.tensors import LevelBytes
from spikenm_compile.lowering.cuda.tiling import (
    COLUMNS,
    Tiling,
    blocks_of_outputs,
    check_halo,
    steps_of,
    tiles_of_image,
    words_of_row_tile,
    words_of_unit,
)

SPARSE = "mma.sp::ordered_metadata.sync.aligned.m16n8k64.row.col.s32.s8.{}.s32"
DENSE = "mma.sync.aligned.m16n8k32.row.col.s32.s8.{}.s32"
EACH_BYTE = 0x01010101


def _params(spec: ConvSpec, tiling: Tiling) -> dict[str, str]:
    """Kernel parameters, name -> dtype."""
    fixed = {"source": "uint32", "weights": "uint32", "scale": "float32", "bias": "float32"}
    if spec.neuron is not None:
        fixed |= neuron_params(spec.neuron, keeps_states=spec.keeps_states or tiling.steps < spec.out.steps)
    return {**fixed, "out": spec.out.dtype}


def build_conv_mma(spec: ConvSpec, tiling: Tiling) -> GeneratedKernel:
    """The kernel of a convolution for one tiling.

    Raises:
        PassError: the halo of the input is narrower than the padding.
    """
    check_halo(spec)
    grid = Grid(tiles_of_image(spec, tiling), tiling.samples, blocks_of_outputs(spec, tiling))
    params = _params(spec, tiling)
    with device.kernel(spec.name, params, grid, tiling.block, shared_words=shared_words(spec, tiling)) as body:
        across = -(-spec.out.width // tiling.width)
        tile = Tile(body, spec, tiling, body.tile // across * tiling.rows, body.tile % across * tiling.width)
        _Loops(tile).run()

    def pack(weight: NDArray[Any]) -> NDArray[Any]:
        return _pack(spec, tiling, weight)

    kind = "2:4 tensor cores" if spec.is_sparse else "tensor cores"
    return replace(body.kernel, pack=pack, description=f"{kind}, {tiling}")


def _pack(spec: ConvSpec, tiling: Tiling, weight: NDArray[Any]) -> NDArray[np.uint32]:
    """Weights of all groups, with zero rows where the last block of outputs has none."""
    missing = blocks_of_outputs(spec, tiling) * tiling.outputs - weight.shape[0]
    padded = np.pad(weight, [(0, missing), (0, 0), (0, 0), (0, 0)])
    return np.concatenate([pack_fragments(part, is_sparse=spec.is_sparse) for part in np.split(padded, spec.groups)])


class _Loops:
    """The body of the kernel."""

    def __init__(self, tile: Tile) -> None:
        self.tile, self.spec, self.tiling = tile, tile.spec, tile.tiling
        self.steps, self.staged = steps_of(tile.spec), staged(tile.spec, tile.tiling)
        self.shared = tile.body.buffers["shared"]
        self.word = words_of_unit(self.spec)
        tiling, thread = self.tiling, tile.body.thread
        self.lane = thread % 32
        self.warp_m, self.warp_n = thread // 32 % tiling.warps_m, thread // 32 // tiling.warps_m
        self.chunks = self.steps.pairs // tiling.pairs
        self.steps_of_chunk = self.steps.count // self.chunks
        self.stages = self.steps_of_chunk // tiling.stage_steps
        self.sums = device.local("sums", tiling.accumulators, "uint32")
        self.a = device.local("a", tiling.row_tiles * words_of_row_tile(self.spec) // 32, "uint32")
        self.b = device.local("b", 4, "uint32")
        self.two = device.local("two", 2, "uint32")
        self.vector = 2 if self.word == 1 and self.steps.is_paired else 1
        self.bases = device.local("bases", tiling.columns, "int32")
        source = self.spec.source
        kind = "s8" if isinstance(source, LevelBytes) and source.signed else "u8"
        self.opcode = (SPARSE if self.spec.is_sparse else DENSE).format(kind)

    def run(self) -> None:
        """All loops."""
        output = Output(self.tile, self.sums)
        for column in range(self.tiling.columns):
            device.store(self.bases, column, self._base(column))
        blocks = self.spec.out.steps // self.tiling.steps
        with T.serial(0, blocks) as time_block:
            first_step = time_block * self.tiling.steps
            for register in range(self.tiling.accumulators):
                device.store(self.sums, register, T.uint32(0))
            with T.serial(0, self.chunks) as chunk:
                if blocks * self.chunks > 1:
                    device.synchronize()  # the levels before these have been read
                self._chunk(first_step, chunk)
            output.write(first_step)

    def _base(self, column: int) -> Expr:
        """Where in shared memory the pixel under tap 0 begins, in vectors, for the lane's position in a column."""
        tiling, stride = self.tiling, self.spec.geometry.stride
        position = (self.warp_n * tiling.columns + column) * COLUMNS + self.lane // 4
        position = tirx.min(position, tiling.positions - 1)
        at = position // tiling.width
        y, x, sample = at % tiling.rows, position % tiling.width, at // tiling.rows
        pixel = (sample * self.staged.height + y * stride[0]) * self.staged.width + x * stride[1]
        return pixel * (self.staged.pixel // self.vector)

    def _chunk(self, first_step: Expr, chunk: Expr) -> None:
        """Copy levels, then run the weights through."""
        first = chunk * self.steps_of_chunk
        self.tile.copy_levels(first_step, chunk)
        for stage in range(NUM_STAGES - 1):
            if stage < self.stages:
                self.tile.copy_weights(stage, first + stage * self.tiling.stage_steps)
            device.commit()
        with T.serial(0, self.stages) as stage:
            device.wait(NUM_STAGES - 2)
            device.synchronize()
            following = stage + (NUM_STAGES - 1)
            with device.when(following < self.stages):
                self.tile.copy_weights(following, first + following * self.tiling.stage_steps)
            device.commit()
            for kept in range(self.tiling.stage_steps):
                self._step(stage, kept, stage * self.tiling.stage_steps + kept)

    def _step(self, stage: Expr, kept: int, step: Expr) -> None:
        """64 channels: weights of all row tiles, then column by column."""
        for row_tile in range(self.tiling.row_tiles):
            self._load_weights(stage, kept, row_tile)
        for column in range(self.tiling.columns):
            for t in range(self.tiling.steps):
                self._load_levels(column, t, step)
                for row_tile in range(self.tiling.row_tiles):
                    self._multiply(row_tile, (row_tile * self.tiling.columns + column) * self.tiling.steps + t)

    def _load_weights(self, stage: Expr, kept: int, row_tile: int) -> None:
        """Four words of weights, and one of metadata or four more weights."""
        words = words_of_row_tile(self.spec)
        index = self.warp_m * self.tiling.row_tiles + row_tile
        at = self.tile.weights_at(stage) + (index * self.tiling.stage_steps + kept) * words
        device.copy_lanes(self.a, row_tile * 4, self.shared, at + self.lane * 4, 4)
        if self.spec.is_sparse:
            device.store(self.a, self.tiling.row_tiles * 4 + row_tile, self.shared[at + 128 + self.lane])
        else:
            second = (self.tiling.row_tiles + row_tile) * 4
            device.copy_lanes(self.a, second, self.shared, at + 128 + self.lane * 4, 4)

    def _load_levels(self, column: int, t: int, step: Expr) -> None:
        """Word i has the channels 16·i + 4·(lane % 4) .. + 3 of a step."""
        base = self.bases[column] * self.vector + t * self.staged.run
        at = [base + self._half(step, half) for half in range(2)]
        quarter = self.lane % 4
        if self.word == 8:
            for i in range(4):
                device.store(self.b, i, self.shared[at[i // 2] + (i % 2 * 4 + quarter)])
            return
        if self.steps.is_paired:
            device.copy_lanes(self.two, 0, self.shared, at[0], 2)
        else:
            for half in range(2):
                device.store(self.two, half, self.shared[at[half]])
        for i in range(4):
            bits = self.two[i // 2] >> T.cast(quarter + i % 2 * 4, "uint32")
            device.store(self.b, i, bits & T.uint32(EACH_BYTE))

    def _half(self, step: Expr, half: int) -> Expr:
        """Words from the pixel under tap 0 to one half of a step; `step` counts from the chunk's first."""
        if self.steps.is_paired:
            return self._tap(step % self.steps.taps) + (step // self.steps.taps * 2 + half) * self.word
        # the tap that fills up an odd number has weights that are zero
        return self._tap(tirx.min(step * 2 + half, self.steps.taps - 1))

    def _tap(self, tap: Expr) -> Expr:
        g = self.spec.geometry
        pixel = tap // g.kernel[1] * (g.dilation[0] * self.staged.width) + tap % g.kernel[1] * g.dilation[1]
        return pixel * self.staged.pixel

    def _multiply(self, row_tile: int, accumulator: int) -> None:
        sums = _registers(self.sums, accumulator * 4, 4)
        if self.spec.is_sparse:
            metadata = (self.a[self.tiling.row_tiles * 4 + row_tile], 0)
            device.multiply(
                self.opcode,
                sums,
                _registers(self.a, row_tile * 4, 4),
                _registers(self.b, 0, 4),
                sums,
                metadata=metadata,
            )
            return
        for half in range(2):
            a = _registers(self.a, (half * self.tiling.row_tiles + row_tile) * 4, 4)
            device.multiply(self.opcode, sums, a, _registers(self.b, half * 2, 2), sums)


def _registers(buffer: Buffer, first: int, count: int) -> Sequence[Expr]:
    return [buffer[first + i] for i in range(count)]
