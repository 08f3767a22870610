import numpy as np
import pytest

from spikenm_compile.pattern import Pattern
from spikenm_compile.phases import Phases, find_phases, staggered_phases

SHAPES = [(8, 16), (8, 16, 3), (16, 32, 3, 3), (12, 16, 1, 1), (8, 16, 2, 2, 2), (17, 16, 3, 3)]


def random_phases(shape: tuple[int, ...], pattern: Pattern, seed: int, free_taps: bool = True) -> Phases:
    random, fixed = np.random.default_rng(seed), staggered_phases(shape, pattern)
    channels = random.permuted(fixed.channels.reshape(-1, pattern.m), axis=1).flatten()
    taps = random.integers(fixed.modulus, size=len(fixed.taps)) if free_taps else fixed.taps
    return Phases(fixed.modulus, channels, random.permutation(fixed.outputs), taps)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("pattern", ["2:4", "1:8", "2:8"])
def test_a_staggered_pattern_is_one_set_of_phases(shape: tuple[int, ...], pattern: str) -> None:
    staggered = Pattern.parse(f"{pattern}@stagger")
    mask = staggered.mask_of(shape)
    assert np.array_equal(staggered_phases(shape, staggered).mask_of(shape), mask)
    found = find_phases(mask, staggered.plain)
    assert found is not None
    assert np.array_equal(found.mask_of(shape), mask)
    assert np.array_equal(found.taps, np.arange(len(found.taps)) % found.modulus)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("pattern", ["2:4", "1:8", "2:8", "3:12"])
def test_phases_are_found_in_a_weight_with_other_zeros(shape: tuple[int, ...], pattern: str) -> None:
    n_m = Pattern.parse(pattern)
    if not n_m.divides(shape[1]):
        shape = (shape[0], 24, *shape[2:])
    for seed in range(8):
        mask = random_phases(shape, n_m, seed).mask_of(shape)
        random = np.random.default_rng(seed)
        weight = random.normal(size=shape) * mask
        if len(mask[0, 0].flatten()) > 4:  # with fewer taps a class of this size is torn apart
            weight *= random.random(shape) < 0.8
        found = find_phases(weight, n_m)
        assert found is not None
        assert np.array_equal(found.mask_of(shape), mask)


def test_usual_taps_are_preferred() -> None:
    shape, pattern = (16, 32, 3, 3), Pattern(1, 8)
    mask = random_phases(shape, pattern, 0, free_taps=False).mask_of(shape)
    found = find_phases(mask, pattern)
    assert found is not None
    assert np.array_equal(found.taps, np.arange(9) % 8)


@pytest.mark.parametrize("what", ["dense", "empty", "other member", "slabs", "groups"])
def test_no_phases_are_found_where_there_are_none(what: str) -> None:
    shape, pattern = (16, 32, 3, 3), Pattern(1, 8)
    phases = random_phases(shape, pattern, 1)
    mask = phases.mask_of(shape)
    if what == "dense":
        mask = np.ones(shape, bool)
    elif what == "empty":
        mask = np.zeros(shape, bool)
    elif what == "other member":
        mask[3, :8, 1, 1] = np.roll(mask[3, :8, 1, 1], 1)
    elif what == "slabs":
        mask[:] = mask[:1]
    else:
        swapped = phases.channels.copy()
        swapped[[0, np.flatnonzero(swapped[8:] != swapped[0])[0] + 8]] = swapped[
            [np.flatnonzero(swapped[8:] != swapped[0])[0] + 8, 0]
        ]
        mask = Phases(8, swapped, phases.outputs, phases.taps).mask_of(shape)
    assert find_phases(mask, pattern) is None


def test_a_silent_output_fills_the_slabs() -> None:
    shape, pattern = (16, 32, 3, 3), Pattern(1, 8)
    mask = random_phases(shape, pattern, 2).mask_of(shape)
    mask[5] = False
    found = find_phases(mask, pattern)
    assert found is not None
    assert np.bincount(found.outputs).tolist() == [2] * 8
    assert not (mask & ~found.mask_of(shape)).any()
