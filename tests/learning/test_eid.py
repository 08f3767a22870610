import torch
import torch.nn.functional as F

from spikenm_compile.learning.eid import eid_gradient, soft_target, update_credit, z_score


def test_closed_form_is_the_gradient_of_the_divergence() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 3, 8, generator=generator, dtype=torch.float64, requires_grad=True)
    target = torch.randn(5, 3, 8, generator=generator, dtype=torch.float64).softmax(-1)
    divergence = F.kl_div(logits.log_softmax(-1), target, reduction="sum")
    (expected,) = torch.autograd.grad(divergence, logits)
    torch.testing.assert_close(eid_gradient(logits.detach(), target), expected)


def test_credit_is_an_average_of_what_switching_on_takes_off_the_loss() -> None:
    credit = update_credit(torch.tensor([1.0, -2.0]), torch.tensor([10.0, -10.0]), 0.9)
    torch.testing.assert_close(credit, torch.tensor([0.9 - 1.0, -1.8 + 1.0]))


def test_z_score_is_free_of_scale_even_for_the_tiny_credits_of_a_real_net() -> None:
    credit = torch.randn(7, 4, generator=torch.Generator().manual_seed(1))
    score = z_score(credit)
    torch.testing.assert_close(score.mean(-1), torch.zeros(7), atol=1e-6, rtol=0)
    torch.testing.assert_close(score.std(-1, unbiased=False), torch.ones(7))
    torch.testing.assert_close(z_score(credit * 1e-12), score)


def test_equal_credits_make_a_flat_target() -> None:
    torch.testing.assert_close(soft_target(torch.full((2, 4), 3.0), 0.5), torch.full((2, 4), 0.25))


def test_the_target_prefers_the_largest_credit() -> None:
    target = soft_target(torch.tensor([0.0, 3.0, -1.0, 0.5]), 0.5)
    assert target.argmax() == 1
    torch.testing.assert_close(target.sum(), torch.tensor(1.0))
