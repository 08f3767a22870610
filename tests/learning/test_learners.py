"""What every learner promises, on random layers."""

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikenm_compile.errors import InputError
from spikenm_compile.learning import (
    LEARNER_NAMES,
    MaskLearner,
    MaskOptions,
    Schedule,
    attach_mask,
    fold_masks,
    tell_loss,
)
from spikenm_compile.learning.learners import LEARNERS
from spikenm_compile.learning.options import LearnerName, decode_identity, encode_identity
from spikenm_compile.pattern import Pattern

LAYERS: dict[str, Callable[[], nn.Module]] = {
    "conv1d": lambda: nn.Conv1d(16, 6, 3, padding=1),
    "conv2d": lambda: nn.Conv2d(16, 6, 3, padding=1, bias=False),
    "grouped": lambda: nn.Conv2d(32, 8, 3, padding=1, groups=2),
    "linear": lambda: nn.Linear(16, 6),
}
STEPS = 6


def case(layer: str, learner: LearnerName, pattern: str = "2:8", seed: int = 0) -> tuple[nn.Module, MaskLearner]:
    torch.manual_seed(3)
    module = LAYERS[layer]()
    options = MaskOptions(Schedule(STEPS, noise=0.5), learner=learner, seed=seed)
    return module, attach_mask(module, Pattern.parse(pattern), options, layer)


def inputs(layer: str, seed: int = 1) -> Tensor:
    size = {"conv1d": (4, 16, 5), "conv2d": (4, 16, 5, 5), "grouped": (4, 32, 5, 5), "linear": (4, 16)}[layer]
    return (torch.rand(size, generator=torch.Generator().manual_seed(seed)) < 0.3).float()


def train(module: nn.Module, layer: str, steps: int, see: Callable[[Tensor], None] = lambda mask: None) -> None:
    learner, weight = module.get_submodule("mask"), module.get_parameter("weight")
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.02)
    for step in range(steps):
        optimizer.zero_grad()
        see((learner(weight) != 0).float())
        loss = module(inputs(layer, step)).square().mean()
        loss.backward()
        tell_loss(module, loss)
        optimizer.step()


def test_the_table_has_every_name_and_each_class_knows_its_own() -> None:
    assert tuple(LEARNERS) == LEARNER_NAMES
    assert all(learner.name == name for name, learner in LEARNERS.items())


@pytest.mark.parametrize("learner", LEARNER_NAMES)
@pytest.mark.parametrize("layer", LAYERS)
def test_the_pattern_holds_at_every_step_and_folding_changes_no_bit_of_evaluation(
    layer: str, learner: LearnerName
) -> None:
    module, mask = case(layer, learner)
    kept: list[Tensor] = []
    train(module, layer, STEPS, kept.append)
    dense = STEPS // 2 if learner == "asp" else 0
    for step, seen in enumerate(kept):
        assert mask.pattern.groups(seen).sum(-1).eq(8 if step < dense else 2).all()
    module.eval()
    before = module(inputs(layer))
    folded = mask.harden(module.get_parameter("weight").detach()) * module.get_parameter("weight").detach()
    fold_masks(module)
    assert torch.equal(module.get_parameter("weight"), folded)
    assert mask.pattern.holds(folded)
    assert torch.equal(module(inputs(layer)), before)


@pytest.mark.parametrize("learner", [name for name in LEARNER_NAMES if name != "staggered"])
@pytest.mark.parametrize("pattern", ["2:2:8", "4:2:4"])
def test_outputs_of_a_slab_share_their_mask(learner: LearnerName, pattern: str) -> None:
    module, mask = case("conv2d", learner, pattern)
    train(module, "conv2d", STEPS)
    v = mask.pattern.v
    final = mask.harden(module.get_parameter("weight").detach())
    assert all(torch.equal(final[o], final[o // v * v]) for o in range(6))  # the last slab of 4 is smaller
    fold_masks(module)
    assert mask.pattern.holds(module.get_parameter("weight").detach())


@pytest.mark.parametrize("learner", ["spikenm", "maskllm", "maskpro", "sr-ste"])
@pytest.mark.parametrize("layer", LAYERS)
def test_pruned_weights_get_the_dense_gradient(layer: str, learner: LearnerName) -> None:
    module, _ = case(layer, learner)
    gradient, expected, mask = both_gradients(module, layer)
    assert torch.equal(gradient, expected)
    assert gradient[mask == 0].any()


@pytest.mark.parametrize("learner", ["random", "staggered"])
@pytest.mark.parametrize("layer", LAYERS)
def test_what_a_fixed_mask_prunes_has_no_gradient(layer: str, learner: LearnerName) -> None:
    module, _ = case(layer, learner)
    gradient, expected, mask = both_gradients(module, layer)
    assert torch.equal(gradient, expected * mask)


def both_gradients(module: nn.Module, layer: str) -> tuple[Tensor, Tensor, Tensor]:
    """(of the masked layer, of a plain layer with the masked weight, mask)."""
    plain = copy.deepcopy(module)
    weight = module.get_parameter("weight")
    mask = (module.get_submodule("mask")(weight) != 0).float()
    fold_masks(plain)
    with torch.no_grad():
        plain.get_parameter("weight").copy_(weight * mask)
    for m in (module, plain):
        m(inputs(layer)).square().sum().backward()
    gradient, expected = weight.grad, plain.get_parameter("weight").grad
    assert gradient is not None
    assert expected is not None
    return gradient, expected, mask


@pytest.mark.parametrize("learner", LEARNER_NAMES)
def test_a_copy_in_the_midst_of_training_goes_on_in_the_same_way(learner: LearnerName) -> None:
    module, _ = case("conv2d", learner)
    train(module, "conv2d", 4)
    resumed, _ = case("conv2d", learner, seed=0 if learner != "random" else 1)  # random masks are in the checkpoint
    resumed.load_state_dict(module.state_dict())
    masks: list[list[Tensor]] = [[], []]
    for m, seen in zip((module, resumed), masks, strict=True):
        train(m, "conv2d", 2, seen.append)
    assert all(torch.equal(a, b) for a, b in zip(*masks, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), resumed.parameters(), strict=True))


@pytest.mark.parametrize("learner", ["spikenm", "maskllm", "maskpro", "random"])
def test_masks_are_a_function_of_seed_layer_and_step(learner: LearnerName) -> None:
    masks = [mask.sample(module.get_parameter("weight"), step) for module, mask, step in drawn(learner)]
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])
    assert torch.equal(masks[0], masks[3]) is (learner == "random")


def drawn(learner: LearnerName) -> list[tuple[nn.Module, MaskLearner, int]]:
    return [(*case("conv2d", learner, seed=seed), step) for seed, step in ((0, 0), (0, 0), (1, 0), (0, 1))]


def test_sr_ste_pulls_pruned_weights_to_zero_once_per_step() -> None:
    module, mask = case("linear", "sr-ste")
    weight = module.get_parameter("weight")
    for part in inputs("linear").chunk(2):
        module(part).sum().backward()
    assert weight.grad is not None
    dense, pruned = weight.grad.clone(), 1.0 - mask.harden(weight.detach())
    mask.prepare_step(weight)
    torch.testing.assert_close(weight.grad, dense + 2e-4 * pruned * weight.detach())
    assert not torch.equal(weight.grad, dense)


def test_a_mask_without_parameters_steps_with_the_optimiser_of_its_weight() -> None:
    (first, one), (second, other) = case("linear", "sr-ste"), case("linear", "sr-ste")
    (first(inputs("linear")).sum() + second(inputs("linear")).sum()).backward()
    torch.optim.SGD(first.parameters(), lr=0.1).step()
    assert (int(one.step), int(other.step)) == (1, 0)


def test_a_fused_step_under_a_gradient_scaler_sees_the_decay_once() -> None:
    weights = []
    for scale in (1.0, 256.0):
        module, _ = case("linear", "sr-ste")
        optimizer = torch.optim.SGD(module.parameters(), lr=1.0, fused=True)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        scaler.scale(0.0 * module(inputs("linear")).sum()).backward()
        scaler.step(optimizer)
        weights.append(module.get_parameter("weight").detach())
    torch.testing.assert_close(*weights, rtol=0, atol=1e-8)
    assert not torch.equal(weights[0], case("linear", "sr-ste")[0].get_parameter("weight"))


def test_asp_keeps_the_largest_weights_of_the_moment_and_then_stands_still() -> None:
    module, mask = case("linear", "asp")
    train(module, "linear", STEPS // 2)
    weight = module.get_parameter("weight")
    expected = mask.pattern.magnitude_mask(weight.detach())
    module(inputs("linear"))
    train(module, "linear", STEPS // 2)
    assert torch.equal(mask.harden(weight.detach()), expected)
    module.eval()
    with torch.no_grad():
        weight.copy_(weight.flip(1))
    assert torch.equal(mask.harden(weight.detach()), expected)


def test_asp_without_a_length_is_dense_until_fold() -> None:
    linear = nn.Linear(8, 4)
    mask = attach_mask(linear, Pattern(2, 4), MaskOptions(learner="asp"))
    assert mask.sample(linear.weight, 10**6).all()
    assert "until fold" in mask.describe(mask.options)
    fold_masks(linear)
    assert Pattern(2, 4).holds(linear.weight.detach())


def test_a_staggered_pattern_has_its_learner_whatever_the_options_say() -> None:
    linear = nn.Linear(16, 8)
    learner = attach_mask(linear, Pattern.parse("2:8@stagger"), MaskOptions(learner="sr-ste"))
    assert learner.name == "staggered"
    assert list(linear.state_dict()) == ["weight", "bias", "mask.step", "mask.nm"]
    plain = attach_mask(nn.Linear(16, 8), Pattern(2, 8), MaskOptions(learner="staggered"))
    assert plain.pattern == learner.pattern
    fold_masks(linear)
    assert linear.nm_pattern == Pattern(2, 8, staggered=True)


def test_checkpoints_of_another_learner_are_refused() -> None:
    trained, _ = case("linear", "maskpro")
    other, _ = case("linear", "spikenm")
    with pytest.raises(RuntimeError, match=r"mask.logits were trained as 2:8 by maskpro, and .* 2:8 by spikenm"):
        other.load_state_dict(trained.state_dict())
    fixed, _ = case("linear", "asp")
    with pytest.raises(RuntimeError, match=r"mask was trained as 2:8 by maskpro, and the model learns 2:8 by asp"):
        fixed.load_state_dict(trained.state_dict())


def test_credit_comes_and_goes_with_the_distillation() -> None:
    with_credit = nn.Linear(8, 4)
    attach_mask(with_credit, Pattern(2, 4))
    without = nn.Linear(8, 4)
    attach_mask(without, Pattern(2, 4), MaskOptions(Schedule(eid=0.0)))
    assert "mask.credit" not in without.state_dict()
    without.load_state_dict(with_credit.state_dict())
    without(torch.rand(2, 8)).sum().backward()
    torch.optim.SGD(without.parameters(), 0.1).step()
    with_credit.load_state_dict(without.state_dict())
    assert not with_credit.state_dict()["mask.credit"].any()
    assert torch.equal(with_credit.weight, without.weight)


@pytest.mark.parametrize("learner", LEARNER_NAMES)
@pytest.mark.parametrize("pattern", ["2:4", "4:2:4", "2:8@stagger"])
def test_the_numbers_of_a_checkpoint_name_pattern_and_learner(pattern: str, learner: LearnerName) -> None:
    numbers = encode_identity(Pattern.parse(pattern), learner)
    assert decode_identity(numbers) == (Pattern.parse(pattern), learner)
    assert len(numbers) == (2 if (pattern, learner) == ("2:4", "spikenm") else 5)


def test_numbers_of_no_learner_are_refused() -> None:
    with pytest.raises(InputError, match=r"a mask is described by the numbers \[2, 4, 1, 0, 99\]; N, M, V, staggered"):
        decode_identity([2, 4, 1, 0, 99])


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (lambda: MaskOptions(learner="ste"), "learner 'ste' does not exist; choose one of spikenm, maskllm, maskpro"),  # type: ignore[arg-type]
        (lambda: MaskOptions(relaxation="hard"), "relaxation 'hard' does not exist; choose one of none, softmax"),  # type: ignore[arg-type]
        (lambda: MaskOptions(Schedule(noise=0.0), learner="maskpro"), "noise=0 draws none; give a larger noise"),
        (lambda: MaskOptions(dense_share=1.0), r"dense_share=1.0, .* the others at least 0 and below 1"),
    ],
)
def test_options_that_cannot_be(wrong: Callable[[], MaskOptions], why: str) -> None:
    with pytest.raises(InputError, match=why):
        wrong()


def test_one_sample_serves_a_step_of_every_learner(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LEARNER_NAMES:
        module, mask = case("linear", name)
        calls: list[int] = []
        sample = mask.sample
        monkeypatch.setattr(mask, "sample", lambda w, s, c=calls, f=sample: c.append(s) or f(w, s))
        train(module, "linear", 2)  # each step looks at the mask and calls the layer
        assert calls == [0, 1]


def test_the_layer_of_a_plain_convolution_and_of_a_masked_one_agree_in_evaluation() -> None:
    module, mask = case("grouped", "maskllm")
    module.eval()
    weight = module.get_parameter("weight").detach()
    expected = F.conv2d(
        inputs("grouped"), weight * mask.harden(weight), module.get_parameter("bias"), padding=1, groups=2
    )
    assert torch.equal(module(inputs("grouped")), expected)


@pytest.mark.parametrize("learner", ["spikenm", "maskllm", "maskpro"])
def test_logits_and_mask_stand_still_in_the_tail(learner: LearnerName) -> None:
    module, mask = case("conv1d", learner)
    searched = 5  # the tail is the last 30 % of 6 steps
    train(module, "conv1d", searched)
    logits, final = mask.get_parameter("logits"), mask.harden(module.get_parameter("weight").detach())
    before, kept = logits.detach().clone(), list[Tensor]()
    train(module, "conv1d", STEPS - searched, kept.append)
    assert torch.equal(logits, before)
    assert torch.equal(kept[0], final)
