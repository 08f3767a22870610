"""Gradients of the neurons that networks are written with by hand, through time."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from spikenm_compile.levels import Levels
from spikenm_compile.neurons import ATan, Neuron, SpikingNeuron

NUM_STEPS, ALPHA = 6, 2.0
SPIKES = Neuron(("h = a * v + x", "s = h >= 0.7", "v = h - s * 0.7"), {"v": 0.0}, {"a": 0.9})
COUNTS = Neuron(
    ("h = a * v + x", "s = max(min(trunc(h / 0.7), 3.0), 0.0)", "v = h - s * 0.7"),
    {"v": 0.0},
    {"a": 0.9},
    levels=Levels(0, 3),
)
ROUNDED = Neuron(
    ("h = a * v + x", "s = min(max(round(h), 0.0), 2.0)", "v = h - s"), {"v": 0.0}, {"a": 0.9}, levels=Levels(0, 2)
)
TERNARY = Neuron(
    ("h = a * v + x", "s = (h >= 0.7) - (-h >= 0.7)", "v = h - s * 0.7"), {"v": 0.0}, {"a": 0.9}, levels=Levels(-1, 1)
)
MEMBRANE = Neuron(("v = a * v + x",), {"v": 0.0}, {"a": 0.9}, "v", None)
NEURONS = {"spikes": SPIKES, "counts": COUNTS, "rounded": ROUNDED, "ternary": TERNARY, "membrane": MEMBRANE}


class Whole(torch.autograd.Function):
    """Straight-through trunc."""

    @staticmethod
    def forward(_ctx: object, a: Tensor) -> Tensor:
        return torch.trunc(a)

    @staticmethod
    def backward(_ctx: object, *grad: Tensor) -> Tensor:
        return grad[0]


def fire(distance: Tensor) -> Tensor:
    spikes: Tensor = ATan.apply(distance, ALPHA, False)  # type: ignore[no-untyped-call]
    return spikes


def count(h: Tensor) -> Tensor:
    """Straight through where trunc(h / θ) lies in 0..3, ends included: from -θ to 4 θ."""
    whole: Tensor = Whole.apply(h / 0.7)  # type: ignore[no-untyped-call]
    inside = (whole >= 0) & (whole <= 3)
    return torch.where(inside, whole, whole.detach().clamp(0, 3))


EMITTED: dict[str, Callable[[Tensor], Tensor]] = {
    "spikes": lambda h: fire(h - 0.7),
    "counts": count,
    "ternary": lambda h: fire(h - 0.7) - fire(-h - 0.7),
}


def gradient(run: Callable[[Tensor], Tensor]) -> Tensor:
    x = (torch.randn(NUM_STEPS, 4, 50, generator=torch.Generator().manual_seed(0)) * 1.2).requires_grad_()
    weights = torch.rand(NUM_STEPS, 4, 50, generator=torch.Generator().manual_seed(1)) + 0.1
    (run(x) * weights).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    return x.grad


@pytest.mark.parametrize("detach_reset", [True, False])
@pytest.mark.parametrize("kind", EMITTED)
def test_gradient_is_that_of_the_equations_unrolled(kind: str, detach_reset: bool) -> None:
    def unrolled(x: Tensor) -> Tensor:
        v, outputs = torch.zeros_like(x[0]), []
        for x_t in x:
            h = 0.9 * v + x_t
            s = EMITTED[kind](h)
            v = h - (s.detach() if detach_reset else s) * 0.7
            outputs.append(s)
        return torch.stack(outputs)

    layer = SpikingNeuron(NEURONS[kind], alpha=ALPHA, detach_reset=detach_reset)
    torch.testing.assert_close(gradient(layer), gradient(unrolled))


@pytest.mark.parametrize("kind", NEURONS)
def test_every_output_has_a_gradient_at_every_step(kind: str) -> None:
    for grad_t in gradient(SpikingNeuron(NEURONS[kind])):
        assert grad_t.ne(0).float().mean() > 0.3


@pytest.mark.parametrize("kind", NEURONS)
def test_the_last_output_learns_from_the_first_input(kind: str) -> None:
    grad = gradient(lambda x: SpikingNeuron(NEURONS[kind])(x)[-1:])
    assert grad[0].ne(0).any()


@pytest.mark.parametrize("kind", ["counts", "rounded"])
@pytest.mark.parametrize("current", [0.1, 2.0])
def test_counts_at_their_bounds_can_change(kind: str, current: float) -> None:
    x = torch.full((1, 1, 1), current, requires_grad=True)
    out = SpikingNeuron(NEURONS[kind])(x)
    out.sum().backward()
    assert float(out.detach()) in (0.0, 2.0)
    assert x.grad is not None
    assert float(x.grad) > 0


@pytest.mark.parametrize("kind", NEURONS)
def test_a_layer_in_front_of_it_learns(kind: str) -> None:
    torch.manual_seed(0)
    neuron = SpikingNeuron(NEURONS[kind])
    model = nn.Sequential(nn.Linear(8, 16), neuron, nn.Linear(16, 1))
    optimizer = torch.optim.Adam(model[0].parameters(), lr=1e-2)  # the layer behind stays as it is
    x, wanted = torch.rand(NUM_STEPS, 32, 8), torch.rand(32, 1)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        neuron.reset()
        loss = (model(x).mean(0) - wanted).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_states_follow_to() -> None:
    layer = SpikingNeuron(SPIKES)
    layer(torch.rand(2, 3, 4))
    assert layer.to(torch.float64) is layer
    assert layer.v is not None
    assert layer.v.dtype is torch.float64
