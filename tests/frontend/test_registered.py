"""Neurons of users, made known with `register_neuron`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import spikenm_compile
from spikenm_compile.errors import CaptureError, InputError
from spikenm_compile.frontend.adapters import is_neuron, reset_states
from spikenm_compile.frontend.capture import capture
from spikenm_compile.frontend.lift import lift
from spikenm_compile.graph import format_captured, run_steps
from spikenm_compile.neurons import Neuron

EQUATIONS = ("h = v * beta + x", "s = h > th", "v = where(s, 0, h)")


class Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (x > 0).float()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        gradient: Tensor = grads[0] / (1 + x * x)
        return gradient


class Keeping(nn.Module):
    """Keeps its potential in a python attribute, and branches on it: capture must not look inside."""

    def __init__(self, beta: float = 0.75) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.tensor(beta))
        self.mem: Tensor | None = None

    def forget(self) -> None:
        self.mem = None

    def forward(self, x: Tensor) -> Tensor:
        mem = torch.zeros_like(x) if self.mem is None else self.mem
        if bool((mem.sum() > 1e9).item()):
            raise AssertionError
        h = mem * self.beta + x
        spikes: Tensor = Spike.apply(h - 1.0)  # type: ignore[no-untyped-call]
        self.mem = torch.where(spikes.detach() > 0, 0.0, h)
        return spikes


class Handed(nn.Module):
    """Takes and returns its potential."""

    def forward(self, x: Tensor, mem: Tensor | None = None) -> tuple[Tensor, Tensor]:
        h = (torch.zeros_like(x) if mem is None else mem) * 0.5 + x
        spikes: Tensor = Spike.apply(h - 1.0)  # type: ignore[no-untyped-call]
        return spikes, torch.where(spikes.detach() > 0, 0.0, h)


class Sequence(nn.Module):
    """All steps at once."""

    def forward(self, x: Tensor) -> Tensor:
        mem, out = torch.zeros_like(x[0]), []
        for x_t in x:
            h = mem * 0.5 + x_t
            out.append(Spike.apply(h - 1.0))  # type: ignore[no-untyped-call]
            mem = torch.where(out[-1].detach() > 0, 0.0, h)
        return torch.stack(out)


def spec(beta: float) -> Neuron:
    return Neuron(EQUATIONS, {"v": 0.0}, {"beta": beta, "th": 1.0})


spikenm_compile.register_neuron(Keeping, lambda m: spec(float(torch.relu(m.beta))), reset=Keeping.forget)
spikenm_compile.register_neuron(Handed, lambda m: spec(0.5), returns=("s", "v"), states=("v",))
spikenm_compile.register_neuron(Sequence, lambda m: spec(0.5), multi_step=True)


class KeepingNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(6, 16), Keeping(0.75)
        self.fc2, self.lif2 = nn.Linear(16, 4), Keeping(0.5)

    def forward(self, x: Tensor) -> Tensor:
        self.lif1.forget()
        self.lif2.forget()
        total = torch.zeros(x.shape[1], 4)
        for x_t in x:
            total = total + self.lif2(self.fc2(self.lif1(self.fc1(x_t))))
        return total / x.shape[0]


class HandedNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(6, 16), Handed()
        self.fc2, self.lif2 = nn.Linear(16, 4), Handed()

    def forward(self, x: Tensor) -> Tensor:
        mem1, mem2, out = None, None, []
        for x_t in x:
            s, mem1 = self.lif1(self.fc1(x_t), mem1)
            s, mem2 = self.lif2(self.fc2(s), mem=mem2)
            out.append(mem2)
        return torch.stack(out)


def sequence_net() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 16), Sequence(), nn.Linear(16, 4), Sequence())


def prepared(model: nn.Module) -> tuple[nn.Module, Tensor]:
    for parameter in model.parameters():
        if parameter.dim() > 0:
            nn.init.uniform_(parameter, -0.4, 0.6)
    return model.eval(), torch.rand(4, 3, 6)


@pytest.mark.parametrize("make", [KeepingNet, HandedNet, sequence_net])
@torch.no_grad()
def test_a_network_of_registered_neurons_captures_and_lifts(make: Any) -> None:
    model, x = prepared(make())
    captured = capture(model, x)
    assert "_function" not in format_captured(captured)
    step_graph = lift(captured, x)
    for num_steps, batch in ((4, 3), (4, 3), (4, 5), (7, 2)):
        sample = torch.rand(num_steps, batch, 6) * 2
        expected = model(sample)
        reset_states(model)
        assert expected.any()
        if num_steps == 4:
            assert torch.equal(captured(sample), expected)
            reset_states(captured)
        assert torch.equal(run_steps(step_graph, sample, num_steps).output, expected)


def test_the_gradient_of_a_registered_neuron_stays() -> None:
    model, x = prepared(KeepingNet())
    gradients = []
    for run in (model, capture(model, x)):
        model.zero_grad()
        run(x).square().sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True) if a is not None)
    assert gradients[0][0] is not None
    assert gradients[0][0].any()


def test_it_builds(tmp_path: Path) -> None:
    model, x = prepared(KeepingNet())
    artifact = spikenm_compile.compile_model(model, x, tmp_path / "artifact")
    checks = spikenm_compile.verify(artifact.path)
    assert checks
    assert all(check.passed for check in checks)


def test_what_cannot_be_registered_is_said() -> None:
    with pytest.raises(InputError, match=r"Keeping is registered already; .* register it once"):
        spikenm_compile.register_neuron(Keeping, lambda m: spec(0.5))
    with pytest.raises(InputError, match=r"a subclass of torch.nn.Module is registered; give the class"):
        spikenm_compile.register_neuron(Keeping(), lambda m: spec(0.5))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"got a string as returns or states"):
        spikenm_compile.register_neuron(nn.Module, lambda m: spec(0.5), states="v")
    assert not is_neuron(nn.Linear(1, 1))


class Numbered(Handed):
    def forward(self, x: Tensor, mem: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return super().forward(x, mem)


class WrongSpec(Handed):
    def forward(self, x: Tensor, mem: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return super().forward(x, mem)


class WrongName(Handed):
    def forward(self, x: Tensor, mem: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return super().forward(x, mem)


spikenm_compile.register_neuron(WrongSpec, lambda m: {"v": 0.0}, returns=("s", "v"))  # type: ignore[arg-type,return-value]
spikenm_compile.register_neuron(WrongName, lambda m: spec(0.5), returns=("s", "u"), states=("v",))


@pytest.mark.parametrize(
    ("neuron", "message"),
    [
        (Numbered, "Numbered overrides forward of Handed, .* call register_neuron for the subclass too"),
        (WrongSpec, r"the spec of WrongSpec returned a dict; .* return one with this module's constants"),
        (WrongName, r"WrongName is registered with 'u' in returns or states; .* the output 's' and the states v"),
    ],
)
def test_a_registration_that_does_not_fit_is_said(neuron: Any, message: str) -> None:
    net = HandedNet()
    net.lif1 = neuron()
    x = torch.rand(4, 3, 6)
    with pytest.raises(CaptureError, match=message):
        lift(capture(net, x), x)


class Bare(Handed):
    def forward(self, x: Tensor, mem: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return super().forward(x, mem)


spikenm_compile.register_neuron(Bare, lambda m: spec(0.5), returns=("s", "v"))


def test_an_argument_that_is_no_state_is_said() -> None:
    net, x = HandedNet(), torch.rand(2, 3, 6)
    net.lif1 = Bare()
    captured = capture(net, x)
    with pytest.raises(CaptureError, match=r"1 arguments behind its inputs, and is registered with no states there"):
        lift(captured, x)
