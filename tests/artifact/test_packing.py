import numpy as np
import numpy.typing as npt
import pytest
import torch

from spikenm_compile.artifact.packing import pack, packed_bytes, unpack
from spikenm_compile.errors import ArtifactError, PatternError
from spikenm_compile.pattern import Pattern

PATTERNS = ["1:2", "2:4", "1:4", "3:4", "1:8", "4:8", "3:7", "2:16", "5:12", "8:9", "1:33", "63:64", "1:256", "255:256"]


def sparse_weight(rng: np.random.Generator, pattern: Pattern, groups: int) -> npt.NDArray[np.int8]:
    """Weight with 0 to N non-zeros in each group, among them -128."""
    outputs, height, width = (int(n) for n in rng.integers(1, 4, 3))
    weight = np.zeros((outputs, height, width, groups, pattern.m), np.int8)
    for group in weight.reshape(-1, pattern.m):
        kept = rng.choice(pattern.m, rng.integers(0, pattern.n + 1), replace=False)
        group[kept] = rng.integers(-128, 128, len(kept))
    return np.moveaxis(weight.reshape(outputs, height, width, -1), -1, 1)


def positions_of(metadata: npt.NDArray[np.uint8], bits: int, count: int) -> list[int]:
    """The positions as plain arithmetic on one big number."""
    stream = int.from_bytes(metadata.tobytes(), "little")
    return [stream >> (i * bits) & ((1 << bits) - 1) for i in range(count)]


@pytest.mark.parametrize("text", PATTERNS)
def test_unpack_gives_back_what_was_packed(text: str) -> None:
    pattern, rng = Pattern.parse(text), np.random.default_rng(len(text))
    for groups in (1, 2, 3):
        weight = sparse_weight(rng, pattern, groups)
        values, metadata = pack(weight, pattern)
        actual = unpack(values, metadata, pattern, weight.shape)
        assert actual.dtype == np.int8
        np.testing.assert_array_equal(actual, weight)
        assert values.nbytes + metadata.nbytes == packed_bytes(weight.shape, pattern)


@pytest.mark.parametrize("text", PATTERNS)
def test_positions_are_distinct_ascend_and_end_with_a_zero_byte(text: str) -> None:
    pattern = Pattern.parse(text)
    weight = sparse_weight(np.random.default_rng(1), pattern, 2)
    values, metadata = pack(weight, pattern)
    found = np.reshape(positions_of(metadata, pattern.index_bits, len(values)), (-1, pattern.n))
    assert (np.diff(found, axis=1) > 0).all()
    assert found.max() < pattern.m
    assert metadata[-1] == 0
    assert len(metadata) == -(-len(values) * pattern.index_bits // 8) + 1


def test_bytes_by_hand() -> None:
    weight = np.array([[0, 5, 0, -6], [7, 0, 0, 0]], np.int8).reshape(2, 4, 1, 1)
    values, metadata = pack(weight, Pattern(2, 4))
    assert values.tolist() == [5, -6, 7, 0]
    # positions 1, 3 | 0, 1 in two bits each, the first in the lowest bits
    assert metadata.tolist() == [0b01_00_11_01, 0]


def test_outputs_that_share_a_mask_have_their_positions_in_common() -> None:
    weight = np.array([[0, 5, 0, 0], [7, 0, 0, 0], [0, 0, 1, 2]], np.int8).reshape(3, 4, 1, 1)
    pattern = Pattern.parse("2:2:4")
    values, metadata = pack(weight, pattern)
    assert values.tolist() == [0, 5, 7, 0, 1, 2]
    assert metadata.tolist() == [0b11_10_01_00, 0]  # the third output is a slab of its own
    np.testing.assert_array_equal(unpack(values, metadata, pattern, weight.shape), weight)
    assert packed_bytes(weight.shape, pattern) == 8
    with pytest.raises(PatternError, match=r"has 3 non-zeros in one group of 4, but pattern 3:2:4 allows 2"):
        pack(weight[[0, 1, 1]] + weight[[2, 1, 0]] // 2, Pattern.parse("3:2:4"))


@pytest.mark.parametrize("text", ["2:2:4", "3:1:8", "8:3:7"])
def test_shared_masks_come_back(text: str) -> None:
    pattern, rng = Pattern.parse(text), np.random.default_rng(0)
    for outputs in (1, 5, 8):
        dense = torch.from_numpy(rng.integers(-128, 128, (outputs, 2 * pattern.m, 3, 2)).astype(np.float32))
        weight = pattern.project(dense).numpy().astype(np.int8)
        values, metadata = pack(weight, pattern)
        np.testing.assert_array_equal(unpack(values, metadata, pattern, weight.shape), weight)
        assert values.nbytes + metadata.nbytes == packed_bytes(weight.shape, pattern)


def test_groups_run_over_channels_of_one_output_and_tap() -> None:
    weight = np.zeros((2, 4, 1, 3), np.int8)
    weight[1, 2, 0, 1] = 9  # output 1, tap 1, group 1 of 1:2, position 0
    values, metadata = pack(weight, Pattern(1, 2))
    assert np.flatnonzero(values).tolist() == [1 * 6 + 1 * 2 + 1]
    assert metadata.tolist() == [0, 0, 0]


@pytest.mark.parametrize("shape", [(4, 8, 3, 2), (6, 16, 1, 1), (5, 8, 2, 2)])
@pytest.mark.parametrize("text", ["2:4@stagger", "1:4@stagger", "2:8@stagger"])
def test_staggered_weights_need_no_metadata(text: str, shape: tuple[int, ...]) -> None:
    pattern, rng = Pattern.parse(text), np.random.default_rng(2)
    weight = (rng.integers(-127, 128, shape) * pattern.mask_of(shape)).astype(np.int8)
    weight[rng.random(shape) < 0.2] = 0  # of the kept ones too
    values, metadata = pack(weight, pattern)
    assert (len(values), len(metadata)) == (weight.size * pattern.n // pattern.m, 0)
    assert values.nbytes == packed_bytes(shape, pattern)
    np.testing.assert_array_equal(unpack(values, metadata, pattern, shape), weight)


def test_weights_beside_the_staggered_mask_are_refused() -> None:
    weight = np.ones((4, 8, 1, 1), np.int8) * ~Pattern.parse("1:4@stagger").mask_of((4, 8, 1, 1))
    with pytest.raises(PatternError, match=r"has non-zeros that pattern 1:4@stagger does not keep; project"):
        pack(weight.astype(np.int8), Pattern.parse("1:4@stagger"))


def test_a_group_without_non_zeros_takes_the_first_positions() -> None:
    _, metadata = pack(np.zeros((1, 256, 1, 1), np.int8), Pattern(8, 256))
    assert metadata.tolist() == [*range(8), 0]


def test_no_outputs_pack_to_the_final_byte() -> None:
    values, metadata = pack(np.zeros((0, 4, 1, 1), np.int8), Pattern(2, 4))
    assert (len(values), metadata.tolist()) == (0, [0])
    assert unpack(values, metadata, Pattern(2, 4), (0, 4, 1, 1)).shape == (0, 4, 1, 1)


def test_weights_that_cannot_be_packed() -> None:
    with pytest.raises(PatternError, match=r"has 3 non-zeros in one group of 4, but pattern 2:4 allows 2; project"):
        pack(np.array([1, 1, 1, 0], np.int8).reshape(1, 4, 1, 1), Pattern(2, 4))
    with pytest.raises(
        PatternError, match=r"does not split into groups of 4 input channels; .* store this layer dense"
    ):
        pack(np.zeros((1, 6, 1, 1), np.int8), Pattern(2, 4))
    with pytest.raises(PatternError, match=r"dtype int8 and shape \[1, 4\] cannot be packed"):
        pack(np.zeros((1, 4), np.int8), Pattern(2, 4))
    with pytest.raises(PatternError, match=r"dtype float32 .* quantise"):
        pack(np.zeros((1, 4, 1, 1), np.float32), Pattern(2, 4))
    with pytest.raises(PatternError, match="does not split into groups"):
        packed_bytes((4, 4), Pattern(2, 4))


def test_packed_arrays_that_cannot_be_unpacked() -> None:
    pattern, shape = Pattern(2, 3), (2, 3, 1, 1)
    values, metadata = pack(np.zeros(shape, np.int8), pattern)
    good = metadata.copy()
    with pytest.raises(ArtifactError, match=r"packed values are int8\[3\]; int8\[4\] is expected"):
        unpack(values[:3], metadata, pattern, shape)
    with pytest.raises(ArtifactError, match=r"packed metadata are uint8\[1\]; uint8\[2\] is expected"):
        unpack(values, metadata[:1], pattern, shape)
    with pytest.raises(ArtifactError, match=r"packed values are uint8\[4\]"):
        unpack(values.view(np.uint8), metadata, pattern, shape)
    for first_byte in (0b01_00_11_00, 0b01_00_01_01, 0b01_00_00_01):  # 3 of 3; twice 1; 1 before 0
        metadata[0] = first_byte
        with pytest.raises(ArtifactError, match="positions that are not ascending numbers below 3"):
            unpack(values, metadata, pattern, shape)
    assert (unpack(values, good, pattern, shape) == 0).all()
