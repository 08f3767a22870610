"""Masks keep their promises whatever the optimiser, the arithmetic and the compiler."""

from typing import Any

import pytest
import torch
from torch import Tensor
from training_runs import TinyNet, masked_net, samples

from spikenm_compile.errors import InputError
from spikenm_compile.learning import fold_masks, masked_layers
from spikenm_compile.learning.learners.spikenm import SpikeNM
from spikenm_compile.pattern import Pattern
from spikenm_compile.training.settings import Settings
from spikenm_compile.training.step import Progress
from spikenm_compile.training.trainer import make_optimizer, run_training

OPTIMIZERS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("ASGD", {}),
    ("Adadelta", {}),
    ("Adafactor", {}),
    ("Adagrad", {}),
    ("Adam", {}),
    ("AdamW", {"betas": [0.9, 0.99]}),
    ("Adamax", {}),
    ("NAdam", {}),
    ("RAdam", {}),
    ("RMSprop", {"momentum": 0.5}),
    ("Rprop", {}),
    ("SGD", {"momentum": 0.9, "nesterov": True}),
)
HARD = [
    *({"optimizer": name, "optimizer_options": options} for name, options in OPTIMIZERS),
    {"precision": "bfloat16"},
    {"accumulate": 4},
    {"precision": "bfloat16", "accumulate": 2},
    {"compile": "eager"},
]


@pytest.mark.parametrize("change", HARD, ids=lambda c: " ".join(str(v) for v in c.values() if not isinstance(v, dict)))
def test_masks_hold_at_every_step_and_stand_still_in_the_tail(change: dict[str, Any]) -> None:
    settings = Settings(epochs=3, batch_size=8, lr=0.02, **change)
    net = masked_net(settings)
    (_, layer, learner), *_ = masked_layers(net)
    assert isinstance(layer.weight, Tensor)
    assert isinstance(learner, SpikeNM)
    weight, logits, masked = layer.weight, [], []

    def observe(reached: Progress) -> None:
        net.train()
        masked.append(learner(torch.ones_like(weight)).detach())
        logits.append(learner.logits.detach().clone())

    run_training(net, samples(), settings, observers=(observe,))
    frozen_from = next(s for s in range(15) if learner.options.schedule.is_frozen(s))
    assert all(Pattern(2, 4).holds(weights) for weights in masked)
    assert all(torch.equal(logits[frozen_from - 1], later) for later in logits[frozen_from:])
    assert not torch.equal(logits[0], logits[frozen_from - 1])
    assert len(logits) - frozen_from == 4
    assert torch.isfinite(layer.weight).all()
    fold_masks(net)
    assert Pattern(2, 4).holds(layer.weight)


def test_parts_of_a_batch_make_the_same_step() -> None:
    whole, parts = (Settings(epochs=1, batch_size=8, accumulate=a, optimizer="SGD", lr=0.1) for a in (1, 4))
    nets = [masked_net(settings, norm=False, dropout=0.0) for settings in (whole, parts)]
    for net, settings in zip(nets, (whole, parts), strict=True):
        run_training(net, samples(), settings)
    first, second = (net.state_dict() for net in nets)
    assert all(torch.allclose(first[k].double(), second[k].double(), rtol=1e-4, atol=1e-6) for k in first)


def test_an_optimiser_that_does_not_take_the_model_says_why() -> None:
    with pytest.raises(InputError, match=r"torch\.optim\.Muon does not take this model or its options: Muon only"):
        make_optimizer(TinyNet(), Settings(optimizer="Muon"))
    with pytest.raises(InputError, match=r"torch\.optim\.SGD does not take .*[Mm]omentum"):
        make_optimizer(TinyNet(), Settings(optimizer="SGD", optimizer_options={"momentum": -1.0}))


def test_masks_of_another_length_are_refused() -> None:
    net = masked_net(Settings(epochs=3, batch_size=8))
    with pytest.raises(InputError, match="'second' cools down over 15 steps, and this training has 5; transform"):
        run_training(net, samples(), Settings(epochs=1, batch_size=8))


def test_a_training_leaves_the_global_generator_alone() -> None:
    settings = Settings(epochs=1, batch_size=8)
    net = masked_net(settings)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    run_training(net, samples(), settings)
    assert torch.equal(torch.rand(3), expected)


def test_an_activity_target_brings_firing_rates_down() -> None:
    rates: list[float] = []
    for strength in (0.0, 3.0):
        settings = Settings(epochs=12, batch_size=8, lr=0.01, activity_target=0.02 if strength else 0.0)
        net = masked_net(settings)
        run_training(net, samples(), settings)
        spikes: list[Tensor] = []
        net.lif2.register_forward_hook(lambda module, args, output, seen=spikes: seen.append(output.detach().mean()))
        net.eval()(samples()[:][0])  # type: ignore[index]
        rates.append(float(spikes[0]))
    assert rates[1] < 0.5 * rates[0]
