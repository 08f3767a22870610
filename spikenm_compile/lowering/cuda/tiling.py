"""How a convolution is dealt out to blocks, warps and registers.

A block computes `outputs` channels of `positions` (samples × rows × columns) for `steps` time steps at once, so that a
neuron's potentials stay in the registers of one thread; time beyond that is a loop. Its warps stand in a grid of
`warps_m` channels × `warps_n` positions. A warp has `row_tiles` × 16 channels and `columns` × 8 positions, at each of
these steps. The levels that a block reads lie in its shared memory, in chunks of unit pairs; weights run through it in
stages.
"""

from __future__ import annotations

from dataclasses import dataclass

from spikenm_compile.errors import PassError
from spikenm_compile.lowering.cuda.fragments import DENSE_WORDS, ROWS, SPARSE_WORDS, Steps
from spikenm_compile.lowering.cuda.generated import WARP
from spikenm_compile.lowering.cuda.specs import ConvSpec
from spikenm_compile.lowering.cuda.tensors import UNIT, SpikeWords

COLUMNS = 8
"""Positions of one instruction."""


@dataclass(frozen=True)
class Tiling:
    """One way to deal a convolution out."""

    samples: int
    rows: int
    width: int
    """Output pixels of a block, in x."""
    steps: int
    """Time steps in registers; divides T."""
    warps_m: int
    warps_n: int
    row_tiles: int
    columns: int
    pairs: int
    """Unit pairs of one chunk in shared memory; divides their number."""
    stage_steps: int
    """Steps of 64 channels in one stage of weights."""

    @property
    def block(self) -> int:
        """Threads."""
        return self.warps_m * self.warps_n * WARP

    @property
    def outputs(self) -> int:
        """Channels of a block."""
        return self.warps_m * self.row_tiles * ROWS

    @property
    def positions(self) -> int:
        """Positions of a block that hold something."""
        return self.samples * self.rows * self.width

    @property
    def accumulators(self) -> int:
        """Sums of one thread."""
        return self.row_tiles * self.columns * self.steps * 4

    def __str__(self) -> str:
        return (
            f"{self.outputs} channels x {self.samples} samples x {self.rows} x {self.width} pixels x {self.steps} "
            f"steps by {self.warps_m} x {self.warps_n} warps"
        )


def steps_of(spec: ConvSpec) -> Steps:
    """Steps of one channel group."""
    return Steps(spec.geometry.taps, -(-(spec.source.channels // spec.groups) // UNIT))


def words_of_unit(spec: ConvSpec) -> int:
    """Words that hold 32 channels."""
    return 1 if isinstance(spec.source, SpikeWords) else 8


def words_of_row_tile(spec: ConvSpec) -> int:
    """Words of weights of 16 channels and one step."""
    return SPARSE_WORDS if spec.is_sparse else DENSE_WORDS


def blocks(spec: ConvSpec, tiling: Tiling, batch: int) -> int:
    """Blocks of a launch."""
    return -(-batch // tiling.samples) * tiles_of_image(spec, tiling) * blocks_of_outputs(spec, tiling)


def tiles_of_image(spec: ConvSpec, tiling: Tiling) -> int:
    """Blocks that an image is cut into."""
    return -(-spec.out.height // tiling.rows) * -(-spec.out.width // tiling.width)


def blocks_of_outputs(spec: ConvSpec, tiling: Tiling) -> int:
    """Blocks that the output channels are cut into."""
    return spec.groups * -(-(spec.out.channels // spec.groups) // tiling.outputs)


def check_halo(spec: ConvSpec) -> None:
    """Check that the padding lies in memory.

    Raises:
        PassError: it does not.
    """
    if spec.source.halo < max(spec.geometry.padding):
        raise PassError(
            f"kernel '{spec.name}' reads a padding of {max(spec.geometry.padding)} pixels from a value with a halo of "
            f"{spec.source.halo}; the halo must be as wide as the padding; plan the value with a wider one"
        )
