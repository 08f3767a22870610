"""Learners under a schedule that keeps more weights first."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from spikenm_compile.errors import InputError
from spikenm_compile.learning import LOGIT_SPEED, MaskOptions, Schedule, attach_mask, tell_loss
from spikenm_compile.learning.logits import LogitLearner
from spikenm_compile.learning.options import LearnerName
from spikenm_compile.pattern import Pattern

RAMP = Schedule(total_steps=8, progressive=0.5)


def convolution() -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(8, 6, 3, padding=1)


def loss_of(conv: nn.Module) -> Tensor:
    loss: Tensor = conv(torch.rand(4, 8, 5, 5, generator=torch.Generator().manual_seed(1))).square().sum()
    return loss


@pytest.mark.parametrize(
    "options",
    [
        MaskOptions(),
        MaskOptions(relaxation="softmax"),
        MaskOptions(relaxation="simple"),
        MaskOptions(learner="sr-ste"),
        MaskOptions(learner="maskpro"),
    ],
    ids=lambda options: f"{options.learner}, {options.relaxation}",
)
@pytest.mark.parametrize("pattern", ["1:4", "2:1:4"])
def test_more_weights_are_kept_first_and_n_from_the_end_of_the_ramp(options: MaskOptions, pattern: str) -> None:
    conv = convolution()
    learner = attach_mask(conv, Pattern.parse(pattern), replace(options, schedule=RAMP), "conv")
    optimizer = torch.optim.AdamW(conv.parameters(), lr=1e-2)
    kept = []
    for _ in range(8):
        mask = learner(torch.ones_like(conv.weight)).detach()
        kept.append(set(learner.pattern.groups(mask).sum(-1).flatten().tolist()))
        loss = loss_of(conv)
        loss.backward()  # type: ignore[no-untyped-call]
        tell_loss(conv, loss)
        optimizer.step()
        optimizer.zero_grad()
        assert learner.pattern.holds(learner.harden(conv.weight))
    assert kept == [{4.0}, {4.0}, {2.0}, {2.0}, {1.0}, {1.0}, {1.0}, {1.0}]
    assert learner.pattern.holds(mask)
    assert all(torch.isfinite(p).all() for p in conv.parameters())


def test_a_resumed_training_keeps_what_it_would_have_kept() -> None:
    options = MaskOptions(RAMP)
    conv, other = convolution(), convolution()
    learner, resumed = (attach_mask(c, Pattern(1, 4), options, "conv") for c in (conv, other))
    optimizer = torch.optim.AdamW(conv.parameters(), lr=1e-2)
    for _ in range(3):
        loss_of(conv).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    other.load_state_dict(conv.state_dict())
    ones = torch.ones_like(conv.weight)
    assert torch.equal(learner(ones), resumed(ones))
    assert set(learner.pattern.groups(resumed(ones)).sum(-1).flatten().tolist()) == {2.0}


@pytest.mark.parametrize("name", ["random", "asp"])
def test_fixed_masks_know_no_ramp(name: LearnerName) -> None:
    conv = convolution()
    learner = attach_mask(conv, Pattern(1, 4), MaskOptions(RAMP, learner=name, dense_share=0.0), "conv")
    assert learner.pattern.holds(learner(torch.ones_like(conv.weight)).detach())


def test_maskllm_has_no_masks_of_more_weights() -> None:
    with pytest.raises(InputError, match=r"maskllm chooses among masks of N weights.*as progressive=0\.5 asks"):
        MaskOptions(RAMP, learner="maskllm")


def test_a_larger_logit_rate_moves_the_scores_further() -> None:
    moved = []
    for rate in (LOGIT_SPEED, 3 * LOGIT_SPEED):
        conv = convolution()
        learner = attach_mask(conv, Pattern(2, 4), MaskOptions(Schedule(noise=0.0, eid=0.0, logit_rate=rate)), "conv")
        assert isinstance(learner, LogitLearner)
        before = rate * learner.logits.detach().clone()
        loss_of(conv).backward()  # type: ignore[no-untyped-call]
        torch.optim.Adam(conv.parameters(), lr=1e-3).step()
        moved.append(rate * learner.logits.detach() - before)
    torch.testing.assert_close(moved[1], 3 * moved[0], rtol=1e-3, atol=1e-4)
