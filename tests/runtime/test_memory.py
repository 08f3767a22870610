import numpy as np
import pytest

from spikenm_compile.artifact.code import SpikesSpec
from spikenm_compile.runtime.memory import aligned_zeros, unpack_spikes


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 4096])
def test_buffers_are_aligned_zero_and_of_their_size(size: int) -> None:
    buffers = [aligned_zeros(size) for _ in range(5)]
    assert all(b.ctypes.data % 64 == 0 and b.shape == (size,) and not b.any() for b in buffers if size)
    assert all(b.shape == (size,) for b in buffers)


@pytest.mark.parametrize("channels", [1, 7, 63, 64, 65, 128, 130])
@pytest.mark.parametrize("halo", [0, 1, 2])
def test_bits_of_any_width(channels: int, halo: int) -> None:
    rng = np.random.default_rng(channels)
    expected = rng.integers(0, 2, (3, channels, 4, 5)).astype(np.uint8)
    spec = SpikesSpec("a", 16, 4, 5, channels, halo)
    words = np.full((4, *spec.word_shape), 2**64 - 1, np.uint64)  # ones around, so that a wrong crop shows
    words[:3, halo : halo + 4, halo : halo + 5] = 0
    for t, c, y, x in np.argwhere(expected):
        words[t, y + halo, x + halo, c // 64] |= np.uint64(1 << (int(c) % 64))
    arena = aligned_zeros(16 + words.nbytes)
    arena[16:] = words.reshape(-1).view(np.uint8)
    np.testing.assert_array_equal(unpack_spikes(arena, spec, 3), expected)
