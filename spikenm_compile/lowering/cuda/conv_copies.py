"""Copies to shared memory of a convolution on tensor cores: a chunk of the levels, and stages of weights."""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx

from spikenm_compile.lowering.cuda import device
from spikenm_compile.lowering.cuda.device import Body, Expr
from spikenm_compile.lowering.cuda.fragments import ROWS
from spikenm_compile.lowering.cuda.specs import ConvSpec
from spikenm_compile.lowering.cuda.staging import NUM_STAGES, aligned_to, staged, weights_in_shared
from spikenm_compile.lowering.cuda.tiling import Tiling, blocks_of_outputs, steps_of, words_of_row_tile, words_of_unit

WORDS_OF_COPY = 4
"""Of weights."""


@dataclass(frozen=True)
class Tile:
    """What one block computes."""

    body: Body
    spec: ConvSpec
    tiling: Tiling
    row: Expr
    """First row of output pixels."""
    column: Expr
    """First column."""

    @property
    def group(self) -> Expr:
        """Channel group."""
        return self.body.row // (blocks_of_outputs(self.spec, self.tiling) // self.spec.groups)

    def copy_levels(self, first_step: Expr, chunk: Expr) -> None:
        """Begin to copy the levels under this block's pixels: some time steps and unit pairs of them.

        Pixels beyond the image are read at its edge: what is computed from them is not stored.
        """
        spec, tiling, shared = self.spec, self.tiling, staged(self.spec, self.tiling)
        steps, word = steps_of(spec), words_of_unit(spec)
        run = (min(2 * tiling.pairs, steps.units) if steps.is_paired else 1) * word // shared.copy
        count = tiling.samples * shared.height * shared.width * tiling.steps * run
        for index in device.shared_out(self.body.thread, self.body.block, count):
            part, at = index % run, index // run
            t, at = at % tiling.steps, at // tiling.steps
            x, at = at % shared.width, at // shared.width
            y, sample = at % shared.height, at // shared.height
            pixel = (sample * shared.height + y) * shared.width + x
            to = pixel * shared.pixel + t * shared.run + part * shared.copy
            source = self._source(sample, y, x, first_step + t)
            source += (self.group * steps.units + chunk * (2 * tiling.pairs)) * word + part * shared.copy
            device.copy_async(self.body.buffers["shared"], to, self.body.buffers["source"], source, shared.copy)

    def _source(self, sample: Expr, y: Expr, x: Expr, t: Expr) -> Expr:
        """First word of one step of a pixel of the input."""
        source, g = self.spec.source, self.spec.geometry
        b = tirx.min(self.body.samples + sample, self.body.batch - 1)
        y = tirx.min(self.row * g.stride[0] + y - g.padding[0] + source.halo, source.height + 2 * source.halo - 1)
        x = tirx.min(self.column * g.stride[1] + x - g.padding[1] + source.halo, source.width + 2 * source.halo - 1)
        words = 1 if words_of_unit(self.spec) == 1 else 4  # bytes of an element's word
        return source.at(b, y - source.halo, x - source.halo, t) // words

    def copy_weights(self, stage: Expr, first_step: Expr) -> None:
        """Begin to copy one stage of weights, from a step on: [row tile][step][words]."""
        spec, tiling = self.spec, self.tiling
        words = words_of_row_tile(spec)
        run = tiling.stage_steps * words
        row_tiles = tiling.outputs // ROWS
        to = self.weights_at(stage)
        for index in device.shared_out(self.body.thread, self.body.block, row_tiles * run // WORDS_OF_COPY):
            word = index * WORDS_OF_COPY
            row_tile = self.body.row * row_tiles + word // run
            source = (row_tile * steps_of(spec).count + first_step) * words + word % run
            buffers = self.body.buffers
            device.copy_async(buffers["shared"], to + word, buffers["weights"], source, WORDS_OF_COPY)

    def weights_at(self, stage: Expr) -> Expr:
        """First word of a stage in shared memory."""
        first = aligned_to(staged(self.spec, self.tiling).words, 4)
        return stage % NUM_STAGES * weights_in_shared(self.spec, self.tiling) + first
