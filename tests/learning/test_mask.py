import copy
import io
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikenm_compile.learning import LOGIT_SPEED, MaskOptions, Schedule, attach_mask
from spikenm_compile.learning.attach import MASKED_LAYERS
from spikenm_compile.learning.eid import eid_gradient, soft_target, update_credit
from spikenm_compile.learning.learners.spikenm import SpikeNM
from spikenm_compile.learning.sampling import relaxed_gradient
from spikenm_compile.pattern import Pattern

NOISY = MaskOptions(Schedule(noise=1.0))


def masked_conv(options: MaskOptions | None = None, pattern: str = "2:4") -> tuple[nn.Conv2d, SpikeNM]:
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 6, 3, padding=1)
    learner = attach_mask(conv, Pattern.parse(pattern), options, "conv")
    assert isinstance(learner, SpikeNM)
    return conv, learner


def images(batch: int = 4) -> Tensor:
    return torch.rand(batch, 8, 5, 5, generator=torch.Generator().manual_seed(1))


def grad(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def test_every_weight_gets_the_dense_gradient_of_the_convolution() -> None:
    conv, learner = masked_conv(NOISY)
    mask = learner(torch.ones_like(conv.weight)).detach()
    weight = (conv.weight * mask).detach().requires_grad_()
    loss: Tensor = F.conv2d(images(), weight, conv.bias, padding=1).square().sum()
    loss.backward()  # type: ignore[no-untyped-call]
    conv(images()).square().sum().backward()
    assert torch.equal(grad(conv.weight), grad(weight))
    assert (grad(conv.weight)[mask == 0] != 0).all()
    assert torch.equal(grad(learner.logits), conv.weight.detach() * grad(weight))


def test_one_sample_serves_all_calls_of_a_step_and_the_next_step_draws_another() -> None:
    conv, learner = masked_conv(NOISY)
    optimizer = torch.optim.AdamW(conv.parameters(), lr=1e-3)
    first = [conv(images()) for _ in range(3)]
    assert torch.equal(first[0], first[1])
    assert torch.equal(first[0], first[2])
    before = learner(torch.ones_like(conv.weight)).detach()
    first[0].sum().backward()
    optimizer.step()
    assert not torch.equal(before, learner(torch.ones_like(conv.weight)))


def test_an_optimiser_without_hook_gets_a_new_mask_too() -> None:
    conv, learner = masked_conv(MaskOptions(Schedule(noise=0.0)))
    before = learner(torch.ones_like(conv.weight)).detach()
    with torch.no_grad():
        learner.logits.neg_()
    assert torch.equal(learner(torch.ones_like(conv.weight)), 1.0 - before)


def test_evaluation_takes_the_top_logits_without_noise() -> None:
    conv, learner = masked_conv(NOISY)
    conv.eval()
    expected = Pattern(2, 4).project(conv.weight.detach())
    assert torch.equal(learner(conv.weight), expected)


def test_the_step_gradient_is_the_equation() -> None:
    conv, learner = masked_conv(MaskOptions(Schedule(noise=0.5, eid=0.2)))
    groups = learner.pattern.groups
    conv(images()).square().sum().backward()
    signal = grad(learner.logits).clone()
    pi = LOGIT_SPEED * groups(learner.logits.detach())
    target = soft_target(groups(update_credit(torch.zeros_like(signal), signal, 0.9)), 0.5)
    expected = 0.3 * groups(signal) / signal.square().mean().sqrt() + 0.2 * eid_gradient(pi, target)
    learner.prepare_step(conv.weight)
    torch.testing.assert_close(groups(grad(learner.logits)), expected)
    assert learner.credit is not None
    torch.testing.assert_close(learner.credit, -0.1 * signal)
    assert int(learner.step) == 1


def test_the_softmax_relaxation_carries_the_task_gradient() -> None:
    conv, learner = masked_conv(MaskOptions(Schedule(noise=0.0, eid=0.0), relaxation="softmax"))
    groups = learner.pattern.groups
    conv(images()).square().sum().backward()
    signal = groups(grad(learner.logits).clone())
    relaxed = relaxed_gradient(LOGIT_SPEED * groups(learner.logits.detach()), signal, 2, 2.0)
    learner.prepare_step(conv.weight)
    torch.testing.assert_close(groups(grad(learner.logits)), 0.3 * relaxed / relaxed.square().mean().sqrt())


def test_the_step_gradient_does_not_depend_on_the_loss_scale() -> None:
    gradients = []
    for scale in (1.0, 1024.0):
        conv, learner = masked_conv()
        (scale * conv(images()).square().sum()).backward()
        learner.prepare_step(conv.weight)
        gradients.append(grad(learner.logits))
    torch.testing.assert_close(gradients[0], gradients[1])


def test_infinite_gradients_leave_no_trace_in_the_credit() -> None:
    conv, learner = masked_conv()
    learner.logits.grad = torch.full_like(learner.logits, torch.inf)
    learner.prepare_step(conv.weight)
    assert learner.credit is not None
    assert not learner.credit.any()


def test_logits_stand_still_in_the_tail_in_spite_of_momentum_and_decay() -> None:
    conv, learner = masked_conv(MaskOptions(Schedule(total_steps=10, noise=0.3, tail=0.5)))
    optimizer = torch.optim.AdamW(conv.parameters(), lr=1e-2, weight_decay=0.1)
    moved = []
    for _ in range(10):
        optimizer.zero_grad()
        conv(images()).square().sum().backward()
        logits, weight = learner.logits.detach().clone(), conv.weight.detach().clone()
        optimizer.step()
        moved.append(not torch.equal(logits, learner.logits))
        assert not torch.equal(weight, conv.weight)
    assert moved == [True] * 5 + [False] * 5
    assert torch.equal(learner(conv.weight), conv.weight * learner.harden(conv.weight))


@pytest.mark.parametrize("way", ["deepcopy", "pickle", "torch"])
def test_copies_keep_class_state_and_learning(way: str) -> None:
    conv, learner = masked_conv(NOISY)
    before = conv(images())
    other = copied(conv, way)
    assert type(other) is type(conv)
    assert isinstance(other, nn.Conv2d)
    assert isinstance(other.mask, SpikeNM)
    assert other in MASKED_LAYERS
    assert torch.equal(other(images()), before)
    optimizer = torch.optim.SGD(other.parameters(), lr=0.1)
    other(images()).sum().backward()
    optimizer.step()
    assert int(other.mask.step) == 1
    assert int(learner.step) == 0
    assert learner.logits.grad is None


def copied(module: nn.Module, way: str) -> nn.Module:
    if way == "deepcopy":
        return copy.deepcopy(module)
    if way == "pickle":
        result: nn.Module = pickle.loads(pickle.dumps(module))
        return result
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    loaded: nn.Module = torch.load(file, weights_only=False)
    return loaded


def test_state_dict_has_the_documented_keys_and_restores_the_search() -> None:
    conv, learner = masked_conv(NOISY)
    assert list(conv.state_dict()) == ["weight", "bias", "mask.logits", "mask.credit", "mask.step", "mask.nm"]
    conv(images()).square().sum().backward()
    torch.optim.AdamW(conv.parameters(), lr=0.1).step()
    other, _ = masked_conv(NOISY)
    other(images())
    other.load_state_dict(conv.state_dict())
    assert torch.equal(other(images()), conv(images()))
    assert int(learner.step) == 1


def test_assigned_state_replaces_the_sample() -> None:
    conv, learner = masked_conv(MaskOptions(Schedule(noise=0.0)))
    first = conv(images())
    state = {**conv.state_dict(), "mask.logits": -learner.logits.detach()}
    conv.load_state_dict(state, assign=True)
    assert not torch.equal(conv(images()), first)


def test_moving_to_another_type_moves_the_sample() -> None:
    conv, _ = masked_conv(NOISY)
    conv(images())
    conv.double()
    assert conv(images().double()).dtype is torch.float64


def test_same_layer_name_and_seed_draw_the_same_mask_and_others_do_not() -> None:
    weight = torch.randn(8, 32, generator=torch.Generator().manual_seed(0))
    masks = [
        SpikeNM(weight, Pattern(2, 4), MaskOptions(Schedule(noise=1.0), seed=seed), layer)(torch.ones_like(weight))
        for layer, seed in (("a", 0), ("a", 0), ("b", 0), ("a", 1))
    ]
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])
    assert not torch.equal(masks[0], masks[3])


def test_a_checkpoint_of_another_pattern_is_refused() -> None:
    trained, other = nn.Conv2d(8, 4, 3), nn.Conv2d(8, 4, 3)
    attach_mask(trained, Pattern(1, 8))
    attach_mask(other, Pattern(2, 4))
    with pytest.raises(RuntimeError, match=r"mask\.logits were trained as 1:8, and the model learns 2:4"):
        other.load_state_dict(trained.state_dict())
