import copy

import pytest
import torch
from torch import nn

from spikenm_compile.errors import PatternError
from spikenm_compile.learning import MaskOptions, Schedule, attach_mask, fold_masks
from spikenm_compile.neurons import LIF
from spikenm_compile.pattern import Pattern


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        LIF(step_mode="s"),
        nn.Conv2d(16, 16, 3, padding=1),
        LIF(step_mode="s"),
        nn.Flatten(),
        nn.Linear(16 * 16, 10),
        LIF(step_mode="s"),
    )


@pytest.mark.parametrize("text", ["2:4", "1:8", "1:2", "3:16"])
def test_folding_after_training_holds_the_pattern_and_changes_no_bit_of_the_output(text: str) -> None:
    model, pattern = network(), Pattern.parse(text)
    keys, classes = list(model.state_dict()), [type(m) for m in model.modules()]
    for name in ("3", "6"):
        attach_mask(model.get_submodule(name), pattern, MaskOptions(Schedule(total_steps=6)), name)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    x = torch.rand(8, 3, 4, 4, generator=torch.Generator().manual_seed(1)) * 3
    for _ in range(6):
        optimizer.zero_grad()
        reset(model)
        model(x).square().sum().backward()
        optimizer.step()
    before = evaluated(model, x)
    assert fold_masks(model) is model
    assert torch.equal(evaluated(model, x), before)
    assert list(model.state_dict()) == keys
    assert [type(m) for m in model.modules()] == classes
    for name in ("3", "6"):
        layer = model.get_submodule(name)
        assert layer.nm_pattern == pattern
        assert isinstance(layer.weight, nn.Parameter)
        assert (pattern.groups(layer.weight.detach()) != 0).sum(-1).eq(pattern.n).all()
    reset(model)
    assert copy.deepcopy(model).get_submodule("3").nm_pattern == pattern


def reset(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, LIF):
            module.reset()


def evaluated(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    model.eval()
    reset(model)
    output: torch.Tensor = model(x)
    return output


def test_a_model_without_masks_is_refused() -> None:
    with pytest.raises(PatternError, match=r"the model has no masks to fold; fold\(\) takes a model"):
        fold_masks(network())


def test_a_diverged_layer_is_refused_and_the_model_left_alone() -> None:
    model = network()
    for name in ("3", "6"):
        attach_mask(model.get_submodule(name), Pattern(2, 4), name=name)
    with torch.no_grad():
        model.get_parameter("6.weight").fill_(torch.nan)
    weight = model.get_parameter("3.weight").detach().clone()
    with pytest.raises(PatternError, match="layer '6' has 4 non-zeros in a group because its weights are not all"):
        fold_masks(model)
    assert torch.equal(model.get_parameter("3.weight"), weight)
    assert "3.mask.logits" in model.state_dict()


def test_a_folded_model_can_learn_masks_again_and_starts_from_those_it_has() -> None:
    layer = nn.Linear(16, 4)
    attach_mask(layer, Pattern(2, 4))
    fold_masks(layer)
    folded = layer.weight.detach().clone()
    learner = attach_mask(layer, Pattern(2, 4))
    assert torch.equal(layer.weight * learner.harden(layer.weight), folded)
