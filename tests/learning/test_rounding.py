"""Weights that learn to be whole numbers: when they are rounded, what their gradient is, and what fold leaves."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikenm_compile.errors import InputError
from spikenm_compile.learning import LEARNER_NAMES, MaskOptions, Schedule, attach_mask, fold_masks, tell_loss
from spikenm_compile.learning.attach import attach_dense, learner_of
from spikenm_compile.learning.learner import WeightLearner
from spikenm_compile.learning.options import LearnerName
from spikenm_compile.marks import trained_type
from spikenm_compile.pattern import Pattern
from spikenm_compile.weight_types import WeightType, round_weight

SCHEDULE = Schedule(total_steps=4, tail=0.5)
"""Steps 0 and 1 search, 2 and 3 are the tail."""
ROUNDING: list[LearnerName] = [name for name in LEARNER_NAMES if name != "spre"]


def layer(learner: LearnerName | None, kind: WeightType | None = "int4") -> tuple[nn.Conv2d, WeightLearner]:
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 6, 3, padding=1).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    options = MaskOptions(SCHEDULE, learner=learner or "spikenm", weight_type=kind)
    if learner is None:
        return conv, attach_dense(conv, options, "conv")
    return conv, attach_mask(conv, Pattern(2, 4), options, "conv")


def images(seed: int = 1) -> Tensor:
    return torch.rand(4, 8, 5, 5, generator=torch.Generator().manual_seed(seed))


def train(conv: nn.Conv2d, steps: int) -> None:
    optimizer = torch.optim.SGD(conv.parameters(), lr=0.01)
    for step in range(steps):
        optimizer.zero_grad()
        loss = conv(images(step)).square().mean()
        loss.backward()
        tell_loss(conv, loss)
        optimizer.step()


def is_on_grid(weight: Tensor) -> bool:
    return torch.allclose(weight, round_weight(weight, "int4"), rtol=1e-6, atol=0.0)


@pytest.mark.parametrize("learner", [None, *ROUNDING])
def test_weights_are_rounded_in_the_tail_and_in_evaluation(learner: LearnerName | None) -> None:
    conv, mask = layer(learner)
    seen = []
    for _ in range(4):
        seen.append(is_on_grid(mask(conv.weight).detach()))
        train(conv, 1)
    assert seen == [False, False, True, True]
    conv.eval()
    assert is_on_grid(mask(conv.weight).detach())
    assert mask(conv.weight).stride() == conv.weight.stride()


@pytest.mark.parametrize("learner", [None, *ROUNDING])
def test_fold_leaves_the_whole_numbers_of_the_tail_and_changes_no_bit(learner: LearnerName | None) -> None:
    conv, mask = layer(learner)
    train(conv, 3)
    trained = mask(conv.weight).detach()
    conv.eval()
    before = conv(images())
    fold_masks(conv)
    assert torch.equal(conv(images()), before)
    assert torch.equal(conv.weight, trained)
    assert trained_type(conv) == "int4"
    assert type(conv) is nn.Conv2d


@pytest.mark.parametrize("learner", [None, "spikenm", "random"])
def test_the_gradient_is_that_of_the_rounded_weight(learner: LearnerName | None) -> None:
    conv, mask = layer(learner)
    train(conv, 2)
    conv.zero_grad()
    used = mask(conv.weight).detach().requires_grad_()
    F.conv2d(images(), used, conv.bias, padding=1).square().sum().backward()  # type: ignore[no-untyped-call]
    conv(images()).square().sum().backward()
    assert used.grad is not None
    assert conv.weight.grad is not None
    kept = used.detach() != 0 if learner == "random" else torch.ones_like(used, dtype=torch.bool)
    assert torch.equal(conv.weight.grad[kept], used.grad[kept])


def test_one_scale_serves_a_step_and_follows_the_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    conv, mask = layer("spikenm")
    train(conv, 2)
    first = mask(conv.weight).detach()
    monkeypatch.setattr("spikenm_compile.learning.learner.weight_scale", None)
    assert torch.equal(mask(conv.weight), first)
    monkeypatch.undo()
    with torch.no_grad():
        conv.weight.mul_(2.0)
    assert torch.equal(mask(conv.weight), 2.0 * first)


def test_without_a_length_weights_are_rounded_by_fold_alone() -> None:
    conv = nn.Conv2d(8, 6, 3)
    mask = attach_dense(conv, MaskOptions(weight_type="int7"), "conv")
    assert torch.equal(mask(conv.weight), conv.weight)
    expected = round_weight(conv.weight, "int7")
    assert torch.equal(fold_masks(conv).get_parameter("weight"), expected)


@pytest.mark.parametrize("learner", [None, "spikenm"])
def test_copies_and_pickles_round_too(learner: LearnerName | None) -> None:
    conv, mask = layer(learner)
    train(conv, 2)
    expected = mask(conv.weight)
    for other in (copy.deepcopy(conv), pickle.loads(pickle.dumps(conv))):
        copied = learner_of(other)
        assert copied is not None
        assert torch.equal(copied(other.weight), expected)


@pytest.mark.parametrize("learner", [None, "spikenm"])
def test_state_goes_through_torch_save_and_older_state_is_taken(learner: LearnerName | None) -> None:
    conv, _ = layer(learner)
    train(conv, 3)
    file = io.BytesIO()
    torch.save(conv.state_dict(), file)
    file.seek(0)
    other, again = layer(learner)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert int(again.step) == 3
    assert torch.equal(other(images()), conv(images()))
    older = {key: value for key, value in conv.state_dict().items() if not key.endswith("mask.largest")}
    other.load_state_dict(older)
    floats, _ = layer("spikenm", None)
    if learner is None:
        plain = nn.Conv2d(8, 6, 3)
        other.load_state_dict(plain.state_dict())
        assert torch.equal(other.weight, plain.weight)
    else:
        floats.load_state_dict(conv.state_dict())
        assert "mask.largest" not in floats.state_dict()


def test_options_that_cannot_be() -> None:
    with pytest.raises(InputError, match="cannot be trained as 'auto'; they can as int8, int7, int4; choose one"):
        MaskOptions(weight_type="auto")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="spre trains two weights that become one by fold, and neither of them is"):
        MaskOptions(learner="spre", weight_type="int4")
