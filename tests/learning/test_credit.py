"""The credit against sums over single events, in nets of spiking neurons that are written out here."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikenm_compile.learning import MaskOptions, Schedule, attach_mask
from spikenm_compile.learning.learners.spikenm import SpikeNM
from spikenm_compile.neurons import LIF
from spikenm_compile.pattern import Pattern

STEPS = 4


@dataclass
class Events:
    """Inputs and currents of the masked layer, one of each for every call."""

    inputs: list[Tensor] = field(default_factory=list)
    currents: list[Tensor] = field(default_factory=list)

    def pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        """(x, δ) of each call."""
        for x, current in zip(self.inputs, self.currents, strict=True):
            assert current.grad is not None
            yield x, current.grad


def watched(layer: nn.Module) -> Events:
    events = Events()

    def see(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        output.retain_grad()
        events.inputs.append(args[0].detach())
        events.currents.append(output)

    layer.register_forward_hook(see)
    return events


def masked(layer: nn.Module, credit: str, pattern: str = "2:4") -> SpikeNM:
    options = MaskOptions(Schedule(noise=0.5), credit=credit)  # type: ignore[arg-type]
    mask = attach_mask(layer, Pattern.parse(pattern), options, "layer")
    assert isinstance(mask, SpikeNM)
    return mask


def spikes(*shape: int) -> Tensor:
    return (torch.rand(*shape, generator=torch.Generator().manual_seed(5)) < 0.4).double()


def feed_forward(layer: nn.Module, detach_reset: bool) -> None:
    neuron, readout = LIF(detach_reset=detach_reset, step_mode="s"), nn.Linear(6, 3).double()
    loss = sum(readout(neuron(3.0 * layer(x))).square().sum() for x in spikes(STEPS, 5, 8))
    assert isinstance(loss, Tensor)
    loss.backward()  # type: ignore[no-untyped-call]


def detached(layer: nn.Module) -> None:
    feed_forward(layer, True)


def undetached(layer: nn.Module) -> None:
    feed_forward(layer, False)


def recurrent(layer: nn.Module) -> None:
    """The layer reads inputs and the spikes of the step before."""
    neuron, readout = LIF(step_mode="s"), nn.Linear(6, 3).double()
    fed_back, loss = torch.zeros(5, 6, dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for x in spikes(STEPS, 5, 2):
        fed_back = neuron(9.0 * layer(torch.cat([x, fed_back], 1)))
        loss = loss + readout(fed_back).square().sum()
    loss.backward()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("run", [detached, undetached, recurrent])
def test_the_signed_credit_is_the_sum_of_all_events(run: Callable[[nn.Module], None]) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(8, 6).double()
    mask, events = masked(layer, "signed"), watched(layer)
    run(layer)
    total = sum(torch.einsum("bo,bi->oi", delta, x) for x, delta in events.pairs())
    assert isinstance(total, Tensor)
    mask.prepare_step(layer.weight)
    torch.testing.assert_close(mask.credit, -0.1 * layer.weight.detach() * total)
    assert total.count_nonzero() > total.numel() // 2


@pytest.mark.parametrize("run", [detached, undetached, recurrent])
def test_the_unsigned_credit_is_the_sum_of_the_magnitudes_of_all_events(run: Callable[[nn.Module], None]) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(8, 6).double()
    mask, events = masked(layer, "unsigned"), watched(layer)
    run(layer)
    total = torch.zeros_like(layer.weight, requires_grad=False)
    for x, delta in events.pairs():
        for sample in range(len(x)):
            total += (delta[sample, :, None] * x[sample]).abs()
    mask.prepare_step(layer.weight)
    torch.testing.assert_close(mask.credit, 0.1 * layer.weight.detach().abs() * total)


CONVOLUTIONS = {
    "plain": {"padding": 1},
    "strided": {"padding": 0, "stride": 2},
    "circular": {"padding": 1, "padding_mode": "circular"},
    "same": {"padding": "same", "dilation": 2},
}


@pytest.mark.parametrize("kind", CONVOLUTIONS)
@pytest.mark.parametrize("groups", [1, 2])
def test_events_of_a_convolution_are_one_for_each_sample_position_and_tap(kind: str, groups: int) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(8, 6, 3, groups=groups, **CONVOLUTIONS[kind]).double()  # type: ignore[arg-type]
    mask, events = masked(layer, "unsigned"), watched(layer)
    x = spikes(2, 8, 6, 6) - 0.2  # not binary: magnitudes are exact all the same
    layer(x).pow(3).sum().backward()
    (_, delta) = next(events.pairs())
    mode = "circular" if kind == "circular" else "constant"
    patches = F.unfold(F.pad(x, layer._reversed_padding_repeated_twice, mode), 3, layer.dilation, 0, layer.stride)
    patches = patches.view(2, groups, 8 // groups * 9, -1)
    products = torch.einsum("bgol,bgkl->gobkl", delta.reshape(2, groups, 6 // groups, -1), patches)
    expected = products.abs().sum((2, 4)).view_as(layer.weight)
    mask.prepare_step(layer.weight)
    torch.testing.assert_close(mask.credit, 0.1 * layer.weight.detach().abs() * expected)


def test_outputs_of_a_slab_count_together() -> None:
    torch.manual_seed(0)
    credits = []
    for pattern in ("2:4", "2:2:4"):
        layer = nn.Linear(8, 4, dtype=torch.float64)
        with torch.no_grad():
            layer.weight.fill_(0.5)
        mask = masked(layer, "unsigned", pattern)
        x = spikes(3, 8)
        layer(x).backward(torch.ones(3, 4).double())
        mask.prepare_step(layer.weight)
        credits.append(mask.credit)
    assert credits[0] is not None
    torch.testing.assert_close(credits[1], credits[0].view(2, 2, 8).sum(1))


def test_events_are_counted_only_where_they_are_asked_for() -> None:
    layer = nn.Linear(8, 6)
    mask = masked(layer, "unsigned")
    layer.eval()
    layer(torch.rand(2, 8)).sum().backward()
    assert mask._events is None
    layer.train()
    with torch.no_grad():
        layer(torch.rand(2, 8))
    for _ in range(2):  # the events of two backward passes add up
        layer(torch.ones(2, 8)).sum().backward()
    torch.testing.assert_close(mask._events, 4.0 * layer.weight.detach().abs())
    mask.prepare_step(layer.weight)
    assert mask._events is None
