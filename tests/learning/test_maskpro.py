import pytest
import torch
from torch import Tensor, nn

from spikenm_compile.errors import InputError
from spikenm_compile.learning import MaskOptions, Schedule, attach_mask, tell_loss
from spikenm_compile.learning.learners.maskpro import MaskPro
from spikenm_compile.learning.sampling import draw_gradient
from spikenm_compile.pattern import Pattern


def masked() -> tuple[nn.Linear, MaskPro]:
    torch.manual_seed(0)
    linear = nn.Linear(8, 4)
    mask = attach_mask(linear, Pattern(2, 4), MaskOptions(Schedule(noise=1.0), learner="maskpro"), "fc")
    assert isinstance(mask, MaskPro)
    return linear, mask


def test_the_gradient_of_a_draw_is_that_of_its_probability() -> None:
    logits = torch.tensor([[0.3, -1.0, 0.7, 0.1], [0.0, 2.0, -0.5, 0.4]], dtype=torch.float64, requires_grad=True)
    scores = torch.tensor([[4.0, 1.0, 2.0, 3.0], [1.0, 2.0, 9.0, 4.0]], dtype=torch.float64)
    logarithm = torch.zeros((), dtype=torch.float64)
    for row, (first, second) in enumerate([(0, 3), (2, 3)]):
        p = logits[row].exp()
        logarithm = logarithm + (p[first] / p.sum()).log() + (p[second] / (p.sum() - p[first])).log()
    logarithm.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(draw_gradient(logits.detach(), scores, 2), logits.grad)


def test_a_low_loss_makes_its_draw_more_probable_and_a_high_one_less() -> None:
    for loss, sign in ((0.5, -1.0), (2.0, 1.0)):
        linear, mask = masked()
        gradients: list[Tensor] = []
        for told in (1.0, 1.5, loss):
            mask.logits.grad = torch.zeros_like(mask.logits)
            tell_loss(linear, torch.tensor(told))
            mask.prepare_step(linear.weight)
            gradients.append(mask.logits.grad)
        assert not gradients[0].any()  # the first loss is the first baseline
        assert sign * float(mask.baseline) < sign * loss
        logits = mask.logits.detach()
        taken = mask.sample(linear.weight, 2).bool()
        pull = mask.pattern.groups(torch.where(taken, gradients[2], 0.0)).sum(-1)
        assert (sign * pull > 0).all()  # the optimiser moves against the gradient
        assert torch.equal(logits, mask.logits)


def test_parts_of_a_batch_count_as_their_mean() -> None:
    averages = []
    for parts in ((3.0,), (2.0, 4.0)):
        linear, mask = masked()
        for part in parts:
            tell_loss(linear, torch.tensor(part))
        mask.logits.grad = torch.zeros_like(mask.logits)
        mask.prepare_step(linear.weight)
        averages.append(float(mask.baseline))
    assert averages == [3.0, 3.0]


def test_a_loss_that_was_not_told_is_asked_for() -> None:
    linear, _ = masked()
    linear(torch.rand(2, 8)).sum().backward()
    with pytest.raises(InputError, match=r"layer 'fc' learns its mask from the loss, which it was not told; call"):
        torch.optim.SGD(linear.parameters(), 0.1).step()


def test_learners_without_need_let_the_loss_go() -> None:
    linear = nn.Linear(8, 4)
    attach_mask(linear, Pattern(2, 4))
    tell_loss(linear, torch.tensor(1.0))
