import itertools

import pytest
import torch

from spikenm_compile.learning.sampling import (
    group_softmax,
    gumbel,
    hard_mask,
    initial_logits,
    relaxed_gradient,
    subset_marginals,
    successive_softmax,
)
from spikenm_compile.pattern import Pattern


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_first_logits_are_relative_magnitudes() -> None:
    weight = torch.tensor([[1.0, -3.0, 0.0, 0.0]])
    torch.testing.assert_close(initial_logits(weight, Pattern(2, 4)), torch.tensor([[0.0, 2.0, -1.0, -1.0]]))
    torch.testing.assert_close(initial_logits(torch.zeros(1, 4), Pattern(2, 4)), torch.full((1, 4), -1.0))


@pytest.mark.parametrize("text", ["2:4", "1:8", "3:5", "1:2"])
@pytest.mark.parametrize("shape", [(6, 40, 3, 3), (6, 40)])
def test_a_hard_mask_keeps_exactly_n_of_each_group(text: str, shape: tuple[int, ...]) -> None:
    pattern = Pattern.parse(text)
    mask = hard_mask(randn(*shape), pattern)
    assert mask.shape == shape
    assert (pattern.groups(mask).sum(-1) == pattern.n).all()


def test_noise_is_a_function_of_its_key_and_not_of_the_global_generator() -> None:
    like = torch.zeros(4, 4)
    torch.manual_seed(1)
    first = gumbel(like, "0/conv/7")
    torch.manual_seed(2)
    assert torch.equal(gumbel(like, "0/conv/7"), first)
    assert not torch.equal(gumbel(like, "0/conv/8"), first)


def test_noise_has_the_moments_of_gumbel() -> None:
    noise = gumbel(torch.zeros(200_000, dtype=torch.float64), "moments")
    assert float(noise.mean()) == pytest.approx(0.5772, abs=0.01)
    assert float(noise.var()) == pytest.approx(torch.pi**2 / 6, abs=0.03)


def test_gumbel_top_n_draws_from_softmax() -> None:
    probabilities = torch.tensor([0.1, 0.2, 0.3, 0.4])
    scores = probabilities.log().expand(50_000, 4)
    share = hard_mask(scores + gumbel(scores, "draws"), Pattern(1, 4)).mean(0)
    torch.testing.assert_close(share, probabilities, atol=0.01, rtol=0)


def test_the_relaxation_sums_to_n_and_approaches_the_hard_mask() -> None:
    scores = randn(50, 8)
    torch.testing.assert_close(successive_softmax(scores, 3, 2.0).sum(-1), torch.full((50,), 3.0))
    cold = successive_softmax(torch.tensor([3.0, 1.0, 2.0, 0.0]), 2, 0.05)
    torch.testing.assert_close(cold, torch.tensor([1.0, 0.0, 1.0, 0.0]), atol=2e-3, rtol=0)


def test_the_relaxed_gradient_is_that_of_finite_differences() -> None:
    scores, gradient = randn(8, seed=1).double(), randn(8, seed=2).double()
    actual = relaxed_gradient(scores, gradient, 2, 2.0)
    step = 1e-6
    for i in range(8):
        change = torch.zeros(8, dtype=torch.float64)
        change[i] = step
        difference = successive_softmax(scores + change, 2, 2.0) - successive_softmax(scores - change, 2, 2.0)
        assert float(actual[i]) == pytest.approx(float((gradient * difference).sum() / (2 * step)), abs=1e-7)


def test_marginals_are_sums_over_all_subsets() -> None:
    scores = randn(3, 6, seed=4).double()
    weights = {members: scores[:, members].sum(-1).exp() for members in itertools.combinations(range(6), 3)}
    total = torch.stack(list(weights.values())).sum(0)
    expected = torch.stack([sum(w for m, w in weights.items() if j in m) / total for j in range(6)], -1)
    torch.testing.assert_close(subset_marginals(2.0 * scores, 3, 2.0), expected)


def test_marginals_of_distant_scores_stay_finite() -> None:
    marginals = subset_marginals(torch.tensor([[200.0, -300.0, 150.0, 0.0]]), 2, 1.0)
    torch.testing.assert_close(marginals, torch.tensor([[1.0, 0.0, 1.0, 0.0]]))


def test_the_gradient_through_marginals_is_that_of_finite_differences() -> None:
    scores, gradient = randn(5, seed=1).double(), randn(5, seed=2).double()
    actual = relaxed_gradient(scores, gradient, 2, 2.0, subset_marginals)
    for i in range(5):
        change = torch.zeros(5, dtype=torch.float64)
        change[i] = 1e-6
        difference = subset_marginals(scores + change, 2, 2.0) - subset_marginals(scores - change, 2, 2.0)
        assert float(actual[i]) == pytest.approx(float((gradient * difference).sum() / 2e-6), abs=1e-7)


def test_the_softmax_of_groups_is_a_softmax() -> None:
    scores = 40.0 * randn(7, 3, 8)
    torch.testing.assert_close(group_softmax(scores), scores.softmax(-1))
    with_nothing = torch.tensor([-float("inf"), 1.0, 2.0])
    torch.testing.assert_close(group_softmax(with_nothing), with_nothing.softmax(-1))


def test_noise_of_few_bits_has_no_outliers() -> None:
    noise = gumbel(torch.zeros(50_000, dtype=torch.bfloat16), "few bits")
    assert noise.dtype is torch.bfloat16
    assert float(noise.max()) < 17.0
    assert len(noise.unique()) > 500  # type: ignore[no-untyped-call]
