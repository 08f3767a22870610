"""Which tiling a convolution gets: the largest that fits and gives every multiprocessor a block."""

from __future__ import annotations

from collections.abc import Iterator

from spikenm_compile.lowering.cuda.fragments import ROWS
from spikenm_compile.lowering.cuda.generated import Gpu
from spikenm_compile.lowering.cuda.specs import ConvSpec
from spikenm_compile.lowering.cuda.staging import aligned_to, shared_words
from spikenm_compile.lowering.cuda.tensors import UNIT
from spikenm_compile.lowering.cuda.tiling import COLUMNS, Tiling, blocks, steps_of

MAX_ACCUMULATORS = 128
"""Sums that one thread holds: half of its registers; weights, levels and addresses take most of the others."""
MAX_STEPS = 8
TIME_BLOCKS_COST = 0.6
"""What a sum is worth where the time steps do not all fit, of what it is worth where they do."""
MAX_STAGE_STEPS = 2
"""Steps of 64 channels between two barriers."""


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
