"""N:M patterns: reading them, groups, projection."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from spikenm_compile.errors import PatternError
from spikenm_compile.pattern import Pattern

SHAPES = [(1, 1), (3, 2), (5, 3, 3, 3), (2, 4, 1, 1), (7, 1, 2, 3), (4, 2, 5)]
"""Weights [O, number of groups, *kernel]."""
PATTERNS = ["1:2", "2:4", "1:4", "3:7", "1:16", "5:12"]


def cases() -> Iterator[tuple[Pattern, Tensor]]:
    generator = torch.Generator().manual_seed(3)
    for text in PATTERNS:
        pattern = Pattern.parse(text)
        for outputs, groups, *kernel in SHAPES:
            yield pattern, torch.randn(outputs, groups * pattern.m, *kernel, generator=generator)


@pytest.mark.parametrize(
    ("text", "n", "m"),
    [("2:4", 2, 4), (" 1:8 ", 1, 8), ("255:256", 255, 256), ("1:2", 1, 2), ("02:04", 2, 4), ("1:2:4", 2, 4)],
)
def test_a_pattern_is_read_and_written(text: str, n: int, m: int) -> None:
    assert Pattern.parse(text) == Pattern(n, m)
    assert Pattern.parse(str(Pattern(n, m))) == Pattern(n, m)
    assert Pattern.parse(Pattern(n, m)) == Pattern(n, m)


@pytest.mark.parametrize(
    "text", ["2:x", "", "1:2:4:1", "2", ":", "-1:4", "2.0:4", "2:4@", "2:4@Stagger", "2/4", "2:4\n2:4"]
)
def test_what_is_not_a_pattern_is_refused(text: str) -> None:
    with pytest.raises(PatternError, match=r"is not of the form N:M with whole numbers; write for example 2:4 or 1:8"):
        Pattern.parse(text)


@pytest.mark.parametrize("text", ["3:2", "5:4", "0:4", "2:257", "4:4", "0:0"])
def test_numbers_outside_of_the_range_are_refused(text: str) -> None:
    with pytest.raises(PatternError, match=rf"pattern '{text}' keeps . of \d+ weights; N:M needs 1 <= N < M <= 256"):
        Pattern.parse(text)


@pytest.mark.parametrize(
    ("text", "bits", "density"), [("1:2", 1, 0.5), ("2:4", 2, 0.5), ("1:5", 3, 0.2), ("1:16", 4, 0.0625)]
)
def test_index_bits_and_density(text: str, bits: int, density: float) -> None:
    pattern = Pattern.parse(text)
    assert pattern.index_bits == bits
    assert pattern.density == density
    assert Pattern(1, 256).index_bits == 8


def test_a_group_is_m_consecutive_input_channels_at_one_tap() -> None:
    weight = torch.arange(2 * 8 * 3 * 5).view(2, 8, 3, 5)
    groups = Pattern(2, 4).groups(weight)
    assert groups.shape == (2, 3, 5, 2, 4)
    assert groups[1, 2, 4, 1].tolist() == weight[1, 4:8, 2, 4].tolist()


def test_ungroup_is_the_inverse_of_groups() -> None:
    for pattern, weight in cases():
        assert torch.equal(pattern.ungroup(pattern.groups(weight)), weight)


def test_projection_keeps_the_largest_magnitudes_of_each_group() -> None:
    for pattern, weight in cases():
        projected = pattern.project(weight)
        kept = pattern.groups(projected) != 0
        assert torch.equal(projected[projected != 0], weight[projected != 0])
        assert kept.sum(-1).eq(pattern.n).all()
        expected = pattern.groups(weight.abs()).topk(pattern.n, -1).values.sum(-1)
        torch.testing.assert_close(pattern.groups(projected.abs()).sum(-1), expected)


def test_projection_leaves_weights_that_hold_the_pattern() -> None:
    for pattern, weight in cases():
        projected = pattern.project(weight)
        assert torch.equal(pattern.project(projected), projected)


@pytest.mark.parametrize("value", [0.0, 1.0, -3.5])
def test_ties_leave_exactly_n_and_the_first_wins(value: float) -> None:
    mask = Pattern(2, 5).top_n(torch.full((3, 4, 5), value))
    assert mask.tolist() == [[[1.0, 1.0, 0.0, 0.0, 0.0]] * 4] * 3
    partly = Pattern(2, 4).top_n(torch.tensor([1.0, 2.0, 1.0, 1.0]))
    assert partly.tolist() == [1.0, 1.0, 0.0, 0.0]


def test_top_n_leaves_its_argument_alone() -> None:
    scores = torch.tensor([3.0, 1.0, 2.0])
    Pattern(1, 3).top_n(scores)
    assert scores.tolist() == [3.0, 1.0, 2.0]


def test_holds_is_true_exactly_for_at_most_n_in_whole_groups() -> None:
    for pattern, weight in cases():
        assert not pattern.holds(weight)
        projected = pattern.project(weight)
        assert pattern.holds(projected)
        assert pattern.most_nonzeros(projected) == pattern.n
        assert pattern.most_nonzeros(weight) == pattern.m
        one_more = pattern.groups(projected).clone(memory_format=torch.contiguous_format)
        one_more.view(-1, pattern.m)[-1] = 1.0
        assert not pattern.holds(pattern.ungroup(one_more))
        assert pattern.holds(torch.zeros_like(weight))
        assert not pattern.holds(torch.zeros(2, pattern.m + 1, 3))
        assert pattern.divides(3 * pattern.m)
        assert not pattern.divides(3 * pattern.m + 1)


SHARED_AND_STAGGERED = ["4:2:4", "3:1:4", "2:2:8", "16:1:2", "2:8@stagger", "1:2@stagger", "4:16@stagger"]


@pytest.mark.parametrize("text", SHARED_AND_STAGGERED)
def test_shared_and_staggered_patterns_are_read_and_written(text: str) -> None:
    pattern = Pattern.parse(f" {text} ")
    assert str(pattern) == text
    assert pattern != pattern.plain == Pattern(pattern.n, pattern.m)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("0:2:4", "pattern '0:2:4' shares a mask by 0 outputs; V is at least 1"),
        ("4:4:2", "pattern '4:4:2' keeps 4 of 2 weights"),
        ("3:8@stagger", "pattern '3:8@stagger' cannot be staggered; N must divide M"),
        ("2:2:8@stagger", "pattern '2:2:8@stagger' cannot be staggered; .* slabs have a size of their own"),
    ],
)
def test_shared_and_staggered_patterns_that_cannot_be(text: str, why: str) -> None:
    with pytest.raises(PatternError, match=why):
        Pattern.parse(text)


def weights_of(pattern: Pattern) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(5)
    for outputs, groups, *kernel in SHAPES:
        yield torch.randn(outputs, groups * pattern.m, *kernel, generator=generator)


@pytest.mark.parametrize("text", SHARED_AND_STAGGERED)
def test_projection_and_holding_agree(text: str) -> None:
    pattern = Pattern.parse(text)
    for weight in weights_of(pattern):
        projected = pattern.project(weight)
        assert pattern.holds(projected)
        assert pattern.plain.holds(projected)
        assert (pattern.groups(projected) != 0).sum(-1).eq(pattern.n).all()
        assert torch.equal(pattern.project(projected), projected)
        assert not pattern.holds(weight)


@pytest.mark.parametrize("text", ["4:2:4", "3:1:4"])
def test_the_outputs_of_a_slab_share_the_members_of_the_largest_norm(text: str) -> None:
    pattern = Pattern.parse(text)
    for weight in weights_of(pattern):
        mask = pattern.project(weight) != 0
        for first in range(0, len(weight), pattern.v):  # the last slab is smaller
            slab = slice(first, first + pattern.v)
            assert (mask[slab] == mask[first]).all()
            norm = pattern.groups(weight[slab].square().sum(0, keepdim=True))
            assert torch.equal(pattern.plain.top_n(norm), pattern.groups(mask[first : first + 1]).float())


def test_a_plain_projection_does_not_hold_a_shared_or_staggered_pattern() -> None:
    weight = Pattern(2, 8).project(torch.randn(8, 16, 3, 3, generator=torch.Generator().manual_seed(0)))
    assert Pattern(2, 8).holds(weight)
    assert not Pattern(2, 8, v=2).holds(weight)
    assert not Pattern(2, 8, staggered=True).holds(weight)


def test_slabs_fill_up_with_zeros_and_spread_is_one_value_for_each_output() -> None:
    pattern, weight = Pattern(1, 2, v=2), torch.arange(6.0).view(3, 2)
    assert pattern.slabs(weight).tolist() == [[[0, 1], [2, 3]], [[4, 5], [0, 0]]]
    assert pattern.spread(torch.tensor([[1, 0], [0, 1]]), 3).tolist() == [[1, 0], [1, 0], [0, 1]]


@pytest.mark.parametrize("shape", [(8, 16, 3, 3), (6, 8), (5, 24, 2, 3), (3, 8, 5)])
def test_a_staggered_mask_is_its_formula(shape: tuple[int, ...]) -> None:
    pattern = Pattern(2, 8, staggered=True)
    mask = torch.from_numpy(pattern.mask_of(shape)).flatten(2) if len(shape) > 2 else None
    mask = torch.from_numpy(pattern.mask_of(shape))[..., None] if mask is None else mask
    for o, i, t in ((o, i, t) for o in range(shape[0]) for i in range(shape[1]) for t in range(mask.shape[2])):
        expected = (i % 8 - t - i // 8 - o * 4 // shape[0]) % 4 == 0
        assert bool(mask[o, i, t]) is expected


def test_only_a_staggered_pattern_gives_a_mask_of_whole_groups() -> None:
    with pytest.raises(PatternError, match="pattern 2:8 gives no mask for a weight of shape"):
        Pattern(2, 8).mask_of((4, 8))
    with pytest.raises(PatternError, match=r"pattern 2:8@stagger gives no mask for a weight of shape \[4, 12\]"):
        Pattern(2, 8, staggered=True).mask_of((4, 12))


@pytest.mark.parametrize("text", ["1:2", "2:4", "7:16", "1:16", "3:17", "2:32"])
def test_the_top_is_that_of_a_stable_sort(text: str) -> None:
    pattern = Pattern.parse(text)
    scores = torch.randint(0, 5, (40, 3, pattern.m), generator=torch.Generator().manual_seed(2)).float()  # many ties
    order = scores.sort(dim=-1, descending=True, stable=True).indices
    expected = torch.zeros_like(scores).scatter_(-1, order[..., : pattern.n], 1.0)
    assert torch.equal(pattern.top_n(scores), expected)
