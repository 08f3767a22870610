import math

import pytest
import torch
from torch import Tensor, nn

from spikenm_compile.errors import PatternError
from spikenm_compile.learning import MaskOptions, Schedule, attach_mask
from spikenm_compile.learning.learners.maskllm import MaskLLM, candidates
from spikenm_compile.learning.options import LearnerName
from spikenm_compile.pattern import Pattern


@pytest.mark.parametrize("text", ["2:4", "1:8", "2:8", "3:5"])
def test_candidates_are_all_masks_of_a_group(text: str) -> None:
    pattern = Pattern.parse(text)
    masks = candidates(pattern)
    assert masks.shape == (math.comb(pattern.m, pattern.n), pattern.m)
    assert masks.sum(-1).eq(pattern.n).all()
    assert len({tuple(mask) for mask in masks.tolist()}) == len(masks)


def stepped(learner: LearnerName, pattern: Pattern) -> tuple[Tensor, Tensor]:
    """(first mask, gradient of the logits in the order [O, I/M, M] or [O, I/M, C])."""
    torch.manual_seed(0)
    linear = nn.Linear(16, 4)
    options = MaskOptions(Schedule(noise=0.0, eid=0.0), learner=learner, relaxation="softmax")
    mask = attach_mask(linear, pattern, options, "fc")
    first = mask(torch.ones_like(linear.weight)).detach()
    linear(torch.rand(5, 16)).square().sum().backward()
    mask.prepare_step(linear.weight)
    gradient = mask.get_parameter("logits").grad
    assert gradient is not None
    return first, gradient.reshape(4, 16 // pattern.m, -1)


def test_with_one_of_m_it_is_spikenm_with_the_softmax_relaxation() -> None:
    ours, theirs = stepped("spikenm", Pattern(1, 8)), stepped("maskllm", Pattern(1, 8))
    assert torch.equal(ours[0], theirs[0])
    torch.testing.assert_close(ours[1], theirs[1])


def test_the_gradient_is_that_of_the_relaxed_mask() -> None:
    torch.manual_seed(0)
    linear = nn.Linear(8, 2).double()
    options = MaskOptions(Schedule(noise=0.3), learner="maskllm")
    mask = attach_mask(linear, Pattern(2, 4), options, "fc")
    assert isinstance(mask, MaskLLM)
    x = torch.rand(3, 8, dtype=torch.float64)
    linear(x).square().sum().backward()
    logits = mask.logits.detach().requires_grad_()
    noise = mask.perturbed(torch.zeros_like(logits), 0).detach()
    soft = ((30.0 * logits + noise) / 2.0).softmax(-1) @ candidates(Pattern(2, 4)).double()
    assert linear.weight.grad is not None
    (soft.flatten(1) * linear.weight.detach() * linear.weight.grad).sum().backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(mask.logits.grad, logits.grad)


def test_too_many_candidates_are_refused() -> None:
    with pytest.raises(PatternError, match=r"layer 'fc': 4:16 has 1820 masks for each group, and maskllm holds .* 300"):
        attach_mask(nn.Linear(16, 4), Pattern(4, 16), MaskOptions(learner="maskllm"), "fc")
