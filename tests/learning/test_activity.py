"""Firing rates of models of all libraries, and the penalty that brings them down."""

from __future__ import annotations

from collections.abc import Callable

import norse.torch as norse
import pytest
import sinabs.layers as sl
import snntorch
import torch
from spikingjelly.activation_based import functional, neuron
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from spikenm_compile import register_neuron
from spikenm_compile.errors import InputError
from spikenm_compile.learning import ActivityTarget, FiringRates
from spikenm_compile.learning.activity import excess
from spikenm_compile.neurons import LIF, Neuron
from spikenm_compile.training.digits import digits_net

STEPS, BATCH, IN, OUT = 5, 3, 4, 6


class Stepwise(nn.Module):
    """A linear layer and a single-step neuron that returns its spikes, alone or in a tuple."""

    def __init__(self, cell: nn.Module, has_state: bool) -> None:
        super().__init__()
        self.fc, self.cell, self.has_state = nn.Linear(IN, OUT), cell, has_state

    def forward(self, x: Tensor) -> Tensor:
        state, spikes = None, []
        for step in x:
            out = self.cell(self.fc(step), state) if self.has_state else self.cell(self.fc(step))
            spikes.append(out[0] if isinstance(out, tuple) else out)
            state = out[1] if isinstance(out, tuple) else None
        return torch.stack(spikes)


class MultiStep(nn.Module):
    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.fc, self.cell = nn.Linear(IN, OUT), cell

    def forward(self, x: Tensor) -> Tensor:
        spikes: Tensor = self.cell(self.fc(x))
        return spikes


class StateFirst(nn.Module):
    """A user's neuron, which returns its potential in front of its spikes."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, (x > 0.1).float() + x - x.detach()


class SpikesSecond(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.cell = nn.Linear(IN, OUT), StateFirst()

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.cell(self.fc(step))[1] for step in x])


def parallel_neuron() -> nn.Module:
    cell = neuron.PSN(STEPS)
    nn.init.zeros_(cell.bias)
    assert isinstance(cell, nn.Module)
    return cell


register_neuron(StateFirst, lambda cell: Neuron(("v = x", "s = v > 0.1"), {"v": 0.0}), returns=("v", "s"))

MODELS: dict[str, Callable[[], nn.Module]] = {
    "spikenm": lambda: MultiStep(LIF(tau=2.0, v_threshold=0.2)),
    "spikingjelly": lambda: MultiStep(neuron.LIFNode(v_threshold=0.2, step_mode="m")),
    "spikingjelly single-step": lambda: Stepwise(neuron.IFNode(v_threshold=0.5), False),
    "spikingjelly without canonical form": lambda: MultiStep(parallel_neuron()),
    "snntorch": lambda: Stepwise(snntorch.Leaky(0.9, threshold=0.5), True),
    "norse": lambda: Stepwise(norse.LIFBoxCell(norse.LIFBoxParameters(v_th=torch.tensor(0.05))), True),
    "sinabs": lambda: MultiStep(sl.LIF(tau_mem=5.0, spike_threshold=0.1)),
    "registered": SpikesSecond,
}


def inputs() -> Tensor:
    return torch.rand(STEPS, BATCH, IN, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", MODELS)
def test_the_rate_is_the_mean_of_the_spikes_and_has_a_gradient(name: str) -> None:
    torch.manual_seed(0)
    model = MODELS[name]()
    with FiringRates(model) as firing:
        spikes = model(inputs())
        rates = firing.take()
    assert list(rates) == ["cell"]
    assert 0.0 < float(spikes.detach().mean()) < 1.0
    torch.testing.assert_close(rates["cell"], spikes.mean())
    rates["cell"].backward()  # type: ignore[no-untyped-call]
    assert isinstance(model.fc, nn.Linear)
    assert model.fc.weight.grad is not None
    assert model.fc.weight.grad.abs().sum() > 0


def test_rates_add_up_over_calls_weighted_by_their_size_and_start_anew() -> None:
    model = MultiStep(LIF(v_threshold=0.2))
    with FiringRates(model) as firing:
        small, large = model(inputs()[:, :1]), model(inputs())
        assert len(firing.take()) == 1
        assert firing.take() == {}
        model.cell.reset()  # type: ignore[operator]
        small = model(inputs()[:, :1])
        model.cell.reset()  # type: ignore[operator]
        large = model(inputs())
        expected = (small.sum() + large.sum()) / (small.numel() + large.numel())
        torch.testing.assert_close(firing.take()["cell"], expected)


def test_potentials_are_no_spikes_and_inner_neurons_count_once() -> None:
    model = nn.Sequential(neuron.LIFNode(), neuron.NonSpikingLIFNode())
    with FiringRates(model) as firing:
        model(torch.rand(2, 3))
        assert list(firing.take()) == ["0"]


def test_a_model_without_neuron_modules_is_refused() -> None:
    with pytest.raises(InputError, match=r"Linear has no module that is a spiking neuron.*register_neuron are seen"):
        FiringRates(nn.Linear(2, 2))


def test_recomputation_in_the_backward_pass_does_not_count() -> None:
    model = Stepwise(neuron.IFNode(v_threshold=0.5), False)
    gradients = []
    for recomputes in (False, True):
        functional.reset_net(model)
        model.zero_grad()
        with FiringRates(model) as firing:
            if recomputes:
                checkpoint(Stepwise.forward, model, inputs(), use_reentrant=False, preserve_rng_state=False)
            else:
                model(inputs())
            rate = firing.take()["cell"]
            functional.reset_net(model)
            rate.backward()  # type: ignore[no-untyped-call]
            assert firing.take() == {}
        assert isinstance(model.fc.weight.grad, Tensor)
        gradients.append(model.fc.weight.grad.clone())
    torch.testing.assert_close(gradients[0], gradients[1])


def test_the_excess_is_relative_and_one_sided() -> None:
    rates = torch.tensor([0.0, 0.05, 0.1, 0.2])
    assert excess(rates, 0.05).tolist() == pytest.approx([0.0, 0.0, 1.0, 9.0])


def test_the_penalty_is_the_equation_and_warms_up() -> None:
    model = digits_net()
    activity = ActivityTarget(model, target=0.02, strength=0.5, warmup=4)
    with FiringRates(model) as firing:
        model(torch.rand(4, 1, 8, 8))
        penalty, rates = activity.penalty(), firing.take()
    assert activity.rates() == {name: pytest.approx(float(r)) for name, r in rates.items()}
    assert list(rates) == [f"block{i}.lif" for i in (1, 2, 3, 4)]
    torch.testing.assert_close(penalty, 0.5 / 4 * sum(excess(r, 0.02) for r in rates.values()))
    assert [activity.strength_at(k) for k in (2, 4, 9)] == [0.25, 0.5, 0.5]
    assert ActivityTarget(model, strength=0.5, warmup=0).strength_at(1) == 0.5


def test_evaluation_in_between_does_not_count() -> None:
    model = MultiStep(LIF(v_threshold=0.2))
    activity = ActivityTarget(model)
    model.eval()(inputs())
    with pytest.raises(InputError, match="no spiking neuron has run in training mode"):
        activity.penalty()


def test_the_penalty_brings_the_rate_down_to_the_target_and_removing_it_ends_it() -> None:
    torch.manual_seed(0)
    model = MultiStep(LIF(v_threshold=0.1))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    rates = []
    with ActivityTarget(model, target=0.1, strength=0.3, warmup=5) as activity:
        for _ in range(60):
            model.cell.reset()  # type: ignore[operator]
            model(inputs())
            optimizer.zero_grad()
            activity.penalty().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            rates.append(activity.rates()["cell"])
    assert rates[0] > 0.2
    assert rates[-1] <= 0.12
    assert not model.cell._forward_hooks


@pytest.mark.parametrize("wrong", [{"target": 0.0}, {"strength": -1.0}, {"warmup": -1}])
def test_what_is_no_wish_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match="target and strength must be above 0 and the warm-up at least 0"):
        ActivityTarget(digits_net(), **wrong)  # type: ignore[arg-type]
