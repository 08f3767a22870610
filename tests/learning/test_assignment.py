from itertools import permutations, product

import numpy as np
import pytest

from spikenm_compile.learning.assignment import (
    balanced,
    best_phases,
    better_phases,
    channel_scores,
    output_scores,
    shuffled,
    split,
    sum_of,
    tap_scores,
)
from spikenm_compile.pattern import Pattern
from spikenm_compile.phases import Phases, staggered_phases


@pytest.mark.parametrize(("rows", "classes"), [(4, 2), (6, 3), (6, 2), (5, 5), (7, 3)])
def test_balanced_assignment_is_the_best_of_all(rows: int, classes: int) -> None:
    slots = np.arange(rows) * classes // rows
    for seed in range(20):
        random = np.random.default_rng(seed)
        scores = random.normal(size=(rows, classes))
        if seed % 2:
            scores = scores.round()  # with ties
        found = balanced(scores, np.bincount(slots))
        best = max(scores[np.arange(rows), list(p)].sum() for p in set(permutations(slots.tolist())))
        assert np.array_equal(np.bincount(found, minlength=classes), np.bincount(slots))
        assert scores[np.arange(rows), found].sum() == pytest.approx(best)


def test_each_kind_gets_the_sums_that_its_classes_would_give() -> None:
    random, shape, pattern = np.random.default_rng(0), (5, 8, 3), Pattern(2, 4)
    phases, scores = staggered_phases(shape, pattern), random.normal(size=(5, 3, 8))
    kinds = {"channels": channel_scores, "outputs": output_scores, "taps": tap_scores}
    for kind, sums in kinds.items():
        for place, k in product(range(len(getattr(phases, kind))), range(2)):
            classes = getattr(phases, kind).copy()
            classes[place] = k
            fields = {name: getattr(phases, name) for name in kinds} | {kind: classes}
            masked = np.where(Phases(2, **fields).mask(), scores, 0.0)
            expected = masked.take(place, {"channels": 2, "outputs": 0, "taps": 1}[kind]).sum()
            assert sums(scores, phases)[place, k] == pytest.approx(expected)


def test_the_best_of_many_starts_is_the_best_of_all_on_a_tiny_weight() -> None:
    pattern, shape = Pattern(1, 2), (4, 4, 2)
    start = staggered_phases(shape, pattern)
    groups, halves = [(0, 1), (1, 0)], set(permutations([0, 0, 1, 1]))
    for seed in range(5):
        random = np.random.default_rng(seed)
        scores = random.random((4, 2, 4))
        starts = [start, *(shuffled(start, 2, random) for _ in range(15))]
        every = (
            Phases(2, np.array(a + b), np.array(d), np.array(p))
            for a, b, d, p in product(groups, groups, halves, product(range(2), range(2)))
        )
        expected = max(sum_of(scores, phases) for phases in every)
        assert sum_of(scores, best_phases(scores, starts, 2)) == pytest.approx(expected)


@pytest.mark.parametrize("pattern", ["1:8", "2:8", "4:8"])
def test_phases_get_better_and_stay_balanced(pattern: str) -> None:
    n_m, shape, random = Pattern.parse(pattern), (10, 16, 3, 3), np.random.default_rng(1)
    scores, start = random.random((10, 9, 16)), staggered_phases(shape, n_m)
    found = better_phases(scores, start, 8)
    assert sum_of(scores, found) > 1.05 * sum_of(scores, start)
    assert all(np.bincount(g).tolist() == [n_m.n] * found.modulus for g in found.channels.reshape(-1, 8))
    assert sorted(np.bincount(found.outputs)) == sorted(np.bincount(start.outputs))
    assert sum_of(scores, better_phases(scores, found, 8)) == sum_of(scores, found)


def test_splitting_classes_keeps_the_mask_inside() -> None:
    shape, random = (16, 16, 3, 3), np.random.default_rng(1)
    coarse = shuffled(staggered_phases(shape, Pattern(4, 8)), 8, random)
    fine = split(coarse, 8, 8, random)
    assert not (fine.mask() & ~coarse.mask()).any()
    assert all(sorted(g) == list(range(8)) for g in fine.channels.reshape(-1, 8))
    assert np.bincount(fine.outputs).tolist() == [2] * 8
