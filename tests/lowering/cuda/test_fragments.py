"""The order of weights for tensor cores: what PyTorch's conversion to CUTLASS' 2:4 format says, and the way back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.sparse._semi_structured_conversions import sparse_semi_structured_from_dense_cutlass

from spikenm_compile.errors import PatternError
from spikenm_compile.lowering.cuda.fragments import Steps, compress, pack_fragments
from spikenm_compile.pattern import Pattern


def exactly_two_of_four(outputs: int, channels: int) -> torch.Tensor:
    """Where fewer are not zero, PyTorch's conversion chooses other zeros than ours; both are right."""
    sizes = torch.randint(1, 128, (outputs, channels, 1, 1)).float()
    signs = torch.randint(0, 2, sizes.shape) * 2 - 1
    return (Pattern(2, 4).project(sizes) * signs).to(torch.int8)


def test_values_and_metadata_are_those_of_cutlass() -> None:
    weight = exactly_two_of_four(64, 192)
    values, metadata = sparse_semi_structured_from_dense_cutlass(weight[:, :, 0, 0])  # type: ignore[no-untyped-call]
    np.testing.assert_array_equal(compress(weight[:, :, 0, 0].numpy())[0], values.numpy())
    words = metadata.contiguous().numpy().view(np.uint32).reshape(3, 4, 32)  # [step][row tile][lane]
    ours = pack_fragments(weight.numpy(), is_sparse=True)[..., 128:]
    np.testing.assert_array_equal(ours, words.transpose(1, 0, 2))


def unpacked(words: NDArray[np.uint32], steps: int) -> NDArray[np.int8]:
    """[row tiles, steps, 160] to [outputs, steps, 64], word by word as the PTX manual's figures place them."""
    result = np.zeros((len(words) * 16, steps, 64), np.int8)
    for row_tile, step, lane, i, j in np.ndindex(len(words), steps, 32, 4, 4):
        g, r = divmod(lane, 4)
        row, kept = g + 8 * (i % 2), 16 * (i // 2) + 4 * r + j
        fields = int(words[row_tile, step, 128 + 4 * g + i % 2 + 2 * (kept // 16)])
        position = fields >> 2 * (kept % 16) & 3
        value = np.int8(np.uint8(int(words[row_tile, step, 4 * lane + i]) >> 8 * j & 255).view(np.int8))
        result[row_tile * 16 + row, step, kept // 2 * 4 + position] += value
    return result


def test_units_are_paired_and_taps_run_fastest() -> None:
    weight = Pattern(2, 4).project(torch.randint(-128, 128, (20, 100, 1, 2)).float()).to(torch.int8).numpy()
    matrix = unpacked(pack_fragments(weight, is_sparse=True), 4)
    expected = np.zeros((32, 4, 64), np.int8)
    expected[:20, 0], expected[:20, 1] = weight[:, :64, 0, 0], weight[:, :64, 0, 1]
    expected[:20, 2, :36], expected[:20, 3, :36] = weight[:, 64:, 0, 0], weight[:, 64:, 0, 1]
    np.testing.assert_array_equal(matrix, expected)


def test_taps_are_paired_where_there_is_one_unit() -> None:
    weight = Pattern(2, 4).project(torch.randint(-128, 128, (7, 8, 3, 1)).float()).to(torch.int8).numpy()
    matrix = unpacked(pack_fragments(weight, is_sparse=True), 2)
    expected = np.zeros((16, 2, 64), np.int8)
    expected[:7, 0, :8], expected[:7, 0, 32:40], expected[:7, 1, :8] = (weight[:, :, tap, 0] for tap in range(3))
    np.testing.assert_array_equal(matrix, expected)


@pytest.mark.parametrize(("taps", "units", "count"), [(9, 1, 5), (9, 2, 9), (9, 3, 18), (1, 1, 1)])
def test_number_of_steps(taps: int, units: int, count: int) -> None:
    steps = Steps(taps, units)
    assert steps.count == count
    halves = [steps.half(step, half) for step in range(count) for half in range(2)]
    assert len(set(halves)) == len(halves)
    assert set(halves) >= {(tap, unit) for tap in range(taps) for unit in range(units)}


def test_three_of_four_are_refused() -> None:
    weight = np.ones((1, 4, 1, 1), np.int8)
    weight[0, 0] = 0
    with pytest.raises(PatternError, match=r"more than two non-zeros; 2:4 kernels take at most two; prune the layer"):
        pack_fragments(weight, is_sparse=True)
