"""How a convolution is dealt out to blocks, warps and registers.

A block computes `outputs` channels of `positions` (samples × rows × columns) for `steps` time steps at once, so that a
neuron's potentials stay in the registers of one thread; time beyond that is a loop. Its warps stand in a grid of
`warps_m` channels × `warps_n` positions. A warp has `row_tiles` × 16 channels and `columns` × 8 positions, at each of
these steps. The levels that a block reads lie in its shared memory, in chunks of unit pairs; weights run through it in
stages.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from spikenm_compile.errors import PassError
from spikenm_compile.lowering.cuda.fragments import DENSE_WORDS, ROWS, SPARSE_WORDS, Steps
from spikenm_compile.lowering.cuda.generated import WARP, Gpu
from spikenm_compile.lowering.cuda.specs import ConvSpec
from spikenm_compile.lowering.cuda.tensors import UNIT, SpikeWords

COLUMNS = 8
"""Positions of one instruction."""
MAX_ACCUMULATORS = 128
"""Sums that one thread holds: with 4 + 1 registers of weights, spikes and addresses that leaves no spills at 255."""
MAX_STEPS = 8
TIME_BLOCKS_COST = 0.6
"""What a sum is worth where the time steps do not all fit, of what it is worth where they do."""
NUM_STAGES = 4
MAX_STAGE_STEPS = 2


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


@dataclass(frozen=True)
class Staged:
    """The part of the input that a block holds: [samples][height][width][pixel] words in shared memory."""

    height: int
    width: int
    run: int
    """Words of one step of one pixel."""
    pixel: int
    """Words from one pixel to the next; padded so that lanes read from different banks."""
    words: int
    copy: int
    """Words of one copy."""


def staged(spec: ConvSpec, tiling: Tiling) -> Staged:
    """Layout of the input in shared memory."""
    g = spec.geometry
    height, width = (
        (n - 1) * stride + (kernel - 1) * dilation + 1
        for n, stride, kernel, dilation in zip((tiling.rows, tiling.width), g.stride, g.kernel, g.dilation, strict=True)
    )
    steps = steps_of(spec)
    word = words_of_unit(spec)
    run = (2 * tiling.pairs if steps.is_paired else 1) * word
    is_even = steps.is_paired and steps.units % 2 == 0 and spec.source.units % 2 == 0
    vector = 4 if word == 8 else 2 if is_even else 1
    pixel = tiling.steps * run
    lanes = 4 if word == 8 else 2 if steps.is_paired else 1
    while pixel // lanes % 2 == 0:
        pixel += lanes
    return Staged(height, width, run, pixel, tiling.samples * height * width * pixel, vector)


def steps_of(spec: ConvSpec) -> Steps:
    """Steps of one channel group."""
    return Steps(spec.geometry.taps, -(-(spec.source.channels // spec.groups) // UNIT))


def words_of_unit(spec: ConvSpec) -> int:
    """Words that hold 32 channels."""
    return 1 if isinstance(spec.source, SpikeWords) else 8


def words_of_row_tile(spec: ConvSpec) -> int:
    """Words of weights of 16 channels and one step."""
    return SPARSE_WORDS if spec.is_sparse else DENSE_WORDS


def weights_in_shared(spec: ConvSpec, tiling: Tiling) -> int:
    """Words of one stage of weights."""
    return tiling.stage_steps * tiling.outputs // ROWS * words_of_row_tile(spec)


def shared_words(spec: ConvSpec, tiling: Tiling) -> int:
    """Words of shared memory, both parts; the second begins at a multiple of four."""
    return aligned_to(staged(spec, tiling).words, 4) + NUM_STAGES * weights_in_shared(spec, tiling)


def aligned_to(number: int, unit: int) -> int:
    """Next multiple of `unit`."""
    return -(-number // unit) * unit


def fits_tensor_cores(spec: ConvSpec) -> bool:
    """Whether each channel group is whole units and whole words of outputs."""
    if spec.groups == 1:
        return True
    return spec.source.channels // spec.groups % UNIT == 0 and spec.out.channels // spec.groups % UNIT == 0


def choose_tiling(spec: ConvSpec, gpu: Gpu, batch: int) -> Tiling | None:
    """The largest tile that fits and gives every multiprocessor a block, else the one with most blocks.

    Args:
        spec: the convolution; of its groups `fits_tensor_cores` holds.
        gpu: facts.
        batch: number of samples that the kernel shall be quick for; it takes any.

    Returns:
        None where no tile fits into shared memory.
    """
    best: Tiling | None = None
    for tiling in _candidates(spec):
        if shared_words(spec, tiling) * 4 > gpu.shared_bytes:
            continue
        if blocks(spec, tiling, batch) >= gpu.multiprocessors:
            return tiling
        if best is None or blocks(spec, tiling, batch) > blocks(spec, best, batch):
            best = tiling
    return best


def blocks(spec: ConvSpec, tiling: Tiling, batch: int) -> int:
    """Blocks of a launch."""
    return -(-batch // tiling.samples) * tiles_of_image(spec, tiling) * blocks_of_outputs(spec, tiling)


def tiles_of_image(spec: ConvSpec, tiling: Tiling) -> int:
    """Blocks that an image is cut into."""
    return -(-spec.out.height // tiling.rows) * -(-spec.out.width // tiling.width)


def blocks_of_outputs(spec: ConvSpec, tiling: Tiling) -> int:
    """Blocks that the output channels are cut into."""
    return spec.groups * -(-(spec.out.channels // spec.groups) // tiling.outputs)


def _candidates(spec: ConvSpec) -> list[Tiling]:
    """Tiles with more sums first, and among these those with more steps at once, then those with fewer chunks."""
    tilings = [tiling for shape in SHAPES for tiling in _tilings(spec, *shape)]

    def sums(tiling: Tiling) -> float:
        # potentials go through memory between blocks of time steps
        return tiling.accumulators * tiling.block * (1.0 if tiling.steps == spec.out.steps else TIME_BLOCKS_COST)

    return sorted(tilings, key=lambda t: (-sums(t), -t.steps, -t.pairs))


def _tilings(spec: ConvSpec, warps_m: int, warps_n: int, row_tiles: int, columns: int) -> Iterator[Tiling]:
    """One shape with every size of the input's chunks."""
    steps = steps_of(spec)
    outputs = aligned_to(spec.out.channels // spec.groups, UNIT)
    size = warps_m * row_tiles * ROWS
    if size > outputs or (spec.groups > 1 and outputs % size):
        return
    in_registers = _largest_divisor(spec.out.steps, min(MAX_STEPS, MAX_ACCUMULATORS // (row_tiles * columns * 4)))
    samples, rows, width = _pixels(spec, warps_n * columns * COLUMNS)
    # the last pair of an odd number of units is copied in part, which takes the whole in one chunk
    for pairs in _divisors(steps.pairs) if steps.units % 2 == 0 else [steps.pairs]:
        stage = _largest_divisor(steps.taps * pairs if steps.is_paired else steps.count, MAX_STAGE_STEPS)
        yield Tiling(samples, rows, width, in_registers, warps_m, warps_n, row_tiles, columns, pairs, stage)


SHAPES = (
    *((2, 4, 4, columns) for columns in (8, 4, 2, 1)),
    *((1, 4, 4, columns) for columns in (4, 2, 1)),
    *((1, 4, 2, columns) for columns in (8, 4, 2, 1)),
    (1, 2, 2, 1),
    (1, 1, 2, 1),
)
"""(warps_m, warps_n, row_tiles, columns), from 128 channels × 256 positions to 32 × 8."""


def _pixels(spec: ConvSpec, positions: int) -> tuple[int, int, int]:
    """(samples, rows, columns) of a block with at most so many positions: wasting few, and square for a small halo."""
    height, width = spec.out.height, spec.out.width
    best, best_key = (1, 1, 1), (0.0, 0.0)
    for columns in range(1, min(width, positions) + 1):
        for rows in range(1, min(height, positions // columns) + 1):
            samples = positions // (rows * columns) if (rows, columns) == (height, width) else 1
            computed = -(-height // rows) * -(-width // columns) * positions
            used = height * width * samples / computed
            key = (used, -abs(rows - columns) - (0.0 if columns % COLUMNS == 0 else 0.5))
            if key > best_key:
                best, best_key = (samples, rows, columns), key
    return best


def _divisors(number: int) -> list[int]:
    return [d for d in range(number, 0, -1) if number % d == 0]


def _largest_divisor(number: int, most: int) -> int:
    return next(d for d in _divisors(number) if d <= max(1, most))


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
