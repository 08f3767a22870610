from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikenm_compile.learning import MaskOptions, Schedule, attach_mask, param_groups
from spikenm_compile.learning.learners.spikenm import SpikeNM
from spikenm_compile.pattern import Pattern


def masked_linear() -> tuple[nn.Linear, SpikeNM]:
    torch.manual_seed(0)
    linear = nn.Linear(8, 4)
    learner = attach_mask(linear, Pattern(2, 4), MaskOptions(Schedule(noise=0.5)), "fc")
    assert isinstance(learner, SpikeNM)
    return linear, learner


def inputs() -> Tensor:
    return torch.rand(12, 8, generator=torch.Generator().manual_seed(1))


def parameters_after(steps: int, micro_batches: int) -> list[Tensor]:
    linear, _ = masked_linear()
    optimizer = torch.optim.SGD(linear.parameters(), lr=0.01, momentum=0.9)
    for _ in range(steps):
        optimizer.zero_grad()
        for part in inputs().chunk(micro_batches):
            linear(part).square().sum().backward()
        optimizer.step()
    return [p.detach() for p in linear.parameters()]


def test_accumulated_micro_batches_equal_one_large_batch() -> None:
    for one, many in zip(parameters_after(4, 1), parameters_after(4, 3), strict=True):
        torch.testing.assert_close(one, many)


def test_an_optimiser_prepares_only_the_masks_that_it_updates() -> None:
    (first, first_learner), (second, second_learner) = masked_linear(), masked_linear()
    (first(inputs()).sum() + second(inputs()).sum()).backward()
    assert second_learner.logits.grad is not None
    untouched = second_learner.logits.grad.clone()
    torch.optim.Adam(first.parameters(), lr=1e-3).step()
    assert (int(first_learner.step), int(second_learner.step)) == (1, 0)
    assert torch.equal(second_learner.logits.grad, untouched)


def test_an_optimiser_of_weights_alone_does_not_count_mask_steps() -> None:
    linear, learner = masked_linear()
    linear(inputs()).sum().backward()
    torch.optim.Adam([linear.weight], lr=1e-3).step()
    assert int(learner.step) == 0


@pytest.mark.parametrize("as_keyword", [False, True])
def test_a_closure_that_computes_the_gradients_is_followed_by_the_hook(as_keyword: bool) -> None:
    expected = parameters_after(1, 1)
    linear, learner = masked_linear()
    optimizer = torch.optim.SGD(linear.parameters(), lr=0.01, momentum=0.9)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = linear(inputs()).square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    loss: Any = optimizer.step(closure=closure) if as_keyword else optimizer.step(closure)
    assert float(loss.detach()) > 0.0
    assert int(learner.step) == 1
    for one, other in zip(linear.parameters(), expected, strict=True):
        torch.testing.assert_close(one.detach(), other)


def test_a_fused_step_under_a_gradient_scaler_sees_the_scale_once() -> None:
    expected = parameters_after(1, 1)
    linear, _ = masked_linear()
    optimizer = torch.optim.SGD(linear.parameters(), lr=0.01, momentum=0.9, fused=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    scaler.scale(linear(inputs()).square().sum()).backward()
    scaler.step(optimizer)
    for one, other in zip(linear.parameters(), expected, strict=True):
        torch.testing.assert_close(one.detach(), other)


def test_a_step_that_the_scaler_skips_is_no_mask_step() -> None:
    linear, learner = masked_linear()
    optimizer = torch.optim.AdamW(linear.parameters(), lr=0.01)
    scaler = torch.amp.GradScaler("cpu", init_scale=1.0)
    scaler.scale(linear(inputs()).sum() * torch.inf).backward()
    scaler.step(optimizer)
    assert int(learner.step) == 0


def test_param_groups_spare_the_logits_from_decay_and_hold_every_parameter_once() -> None:
    linear, learner = masked_linear()
    weights, logits = param_groups(linear, 0.1, 0.01)
    assert (weights["lr"], weights["weight_decay"]) == (0.1, 0.01)
    assert (logits["lr"], logits["weight_decay"]) == (0.1, 0.0)
    assert [id(p) for p in weights["params"]] == [id(linear.weight), id(linear.bias)]
    assert [id(p) for p in logits["params"]] == [id(learner.logits)]
    torch.optim.AdamW(param_groups(nn.Linear(2, 2), 0.1, 0.01))
