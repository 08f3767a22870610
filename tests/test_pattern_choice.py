"""One pattern for each layer of a model, against all assignments of patterns to layers."""

from __future__ import annotations

import itertools
import tomllib

import pytest
import torch
from torch import nn

from spikenm_compile import choose_patterns, fold, transform
from spikenm_compile.errors import InputError, PatternError
from spikenm_compile.learning import calibration_loss
from spikenm_compile.learning.sensitivity import LayerUse
from spikenm_compile.pattern import Pattern
from spikenm_compile.pattern_choice import Cost, kept_macs, kept_weights
from spikenm_compile.training.digits import DigitsNet, digits_net

LAYERS = ("block2.conv", "block3.conv", "block4.conv")
WORTH = {"block1.conv": 9.0, "block2.conv": 5.0, "block3.conv": 1.0, "block4.conv": 2.5}
PATTERNS = ("dense", "2:4", "1:8", "1:16")
X = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def network() -> DigitsNet:
    torch.manual_seed(0)
    return digits_net()


def weight_of(model: nn.Module, layer: str) -> nn.Parameter:
    return model.get_parameter(f"{layer}.weight")


def lost_magnitude(model: nn.Module) -> float:
    """Falls with the magnitude in each layer, by what the layer is worth: increases add up over layers."""
    return -sum(worth * float(weight_of(model, layer).detach().abs().mean()) for layer, worth in WORTH.items())


def additive_loss(model: nn.Module) -> float:
    model(X)
    return lost_magnitude(model)


@pytest.mark.parametrize("cost", [kept_weights, kept_macs])
@pytest.mark.parametrize("budget", [0.07, 0.25, 0.4, 1.0])
def test_it_is_the_best_of_all_assignments(budget: float, cost: Cost) -> None:
    chosen = choose_patterns(network(), additive_loss, budget=budget, patterns=PATTERNS, cost=cost)
    uses = {use.layer: use for use in chosen.uses}
    assert tuple(uses) == LAYERS
    dense = sum(cost(use, None) for use in uses.values())
    model = network()
    weights = {name: weight_of(model, name).detach().clone() for name in LAYERS}
    losses = {}
    for patterns in itertools.product([None, *map(Pattern.parse, PATTERNS[1:])], repeat=3):
        if sum(map(cost, uses.values(), patterns)) <= budget * dense:
            for name, pattern in zip(LAYERS, patterns, strict=True):
                weight_of(model, name).data = weights[name] if pattern is None else pattern.project(weights[name])
            losses[patterns] = lost_magnitude(model)
    assert tuple(chosen.layers.values()) == min(losses, key=lambda patterns: losses[patterns])
    assert chosen.share <= budget
    assert chosen.loss + sum(o.loss for o in chosen.options) == pytest.approx(min(losses.values()))


def test_layers_that_cannot_hold_a_pattern_are_not_offered_it() -> None:
    chosen = choose_patterns(network(), additive_loss, budget=0.6, patterns=("dense", "1:32"))
    assert chosen.layers.keys() == {"block3.conv", "block4.conv"}
    with pytest.raises(PatternError, match=r"no layer of the model can hold one of the patterns \(1:64, 3:7\)"):
        choose_patterns(network(), additive_loss, patterns=("1:64", "3:7"))
    with pytest.raises(PatternError, match=r"one of the patterns \(no pattern\)"):
        choose_patterns(network(), additive_loss, patterns=("dense",))


def test_the_result_goes_into_transform_and_toml_and_a_table() -> None:
    model = network()
    chosen = choose_patterns(
        model, calibration_loss([(X, torch.tensor([1, 2]))]), patterns=(None, "2:8", "2:8@stagger", "1:8")
    )
    table = tomllib.loads(chosen.toml())["mask"]["layers"]
    assert table == {layer: str(pattern or "dense") for layer, pattern in chosen.layers.items()}
    text = str(chosen)
    assert all(layer in text for layer in LAYERS)
    assert "of the cost of dense layers; loss " in text
    plain = {layer: pattern and pattern.plain for layer, pattern in chosen.layers.items()}
    assert sum(p is not None for p in plain.values())
    fold(transform(model, layers=plain, report=None))
    assert model.block3.conv.nm_pattern == plain["block3.conv"]


def test_a_cost_of_ones_own_decides() -> None:
    def seconds(use: LayerUse, pattern: Pattern | None) -> float:
        return 1e-6 if pattern is None or use.layer == "block2.conv" else 2e-6  # sparse is slower but in one layer

    chosen = choose_patterns(network(), additive_loss, budget=1.0, patterns=("dense", "2:4"), cost=seconds)
    assert set(chosen.layers.values()) == {None}
    with pytest.raises(InputError, match="the dense layers cost 0 together"):
        choose_patterns(network(), additive_loss, cost=lambda use, pattern: 0.0)


def test_impossible_budgets_are_refused() -> None:
    with pytest.raises(InputError, match=r"budget=0\.0 is not a share of the dense cost"):
        choose_patterns(network(), additive_loss, budget=0.0)
    with pytest.raises(InputError, match=r"budget of 0\.1 is impossible: the smallest.* is 0\.125"):
        choose_patterns(network(), additive_loss, budget=0.1, patterns=("1:8",))
