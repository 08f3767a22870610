"""What a plain trace of a spiking network gets wrong without an error, and that capture does not.

Each test names the trap, shows where it is cheap that `torch.fx` or `torch.export` falls into it, and fails if the fix
in spikenm_compile.frontend is taken out.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import snntorch
import torch
from snntorch import utils
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import Tensor, fx, nn

from spikenm_compile.frontend.capture import capture
from spikenm_compile.frontend.lift import lift
from spikenm_compile.graph import run_steps
from spikenm_compile.neurons import IF


class Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (x >= 0).to(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grads[0] / (1 + x.abs()) ** 2  # type: ignore[no-any-return]


class SurrogateNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return Spike.apply(self.fc(x) - 0.1)  # type: ignore[no-untyped-call, no-any-return]


def test_1_surrogate_gradients_are_not_replaced_by_the_step_function() -> None:
    """Protects: `recorded_functions` keeps an autograd function as one node, with its backward."""
    model, x = SurrogateNet(), torch.rand(3, 4)
    assert not fx.symbolic_trace(model)(x).requires_grad  # the trap
    for net in (model, capture(model, x)):
        model.zero_grad()
        net(x).sum().backward()
        assert model.fc.weight.grad is not None
        assert model.fc.weight.grad.any()


class Snn(nn.Module):
    """snnTorch, as its tutorials write it: `init_leaky` returns a live buffer, `utils.reset` resets in place."""

    def __init__(self, *, by_hand: bool) -> None:
        super().__init__()
        self.fc, self.by_hand = nn.Linear(4, 4), by_hand
        self.lif = snntorch.Leaky(beta=0.9, threshold=0.3, init_hidden=not by_hand)

    def forward(self, x: Tensor) -> Tensor:
        outputs = []
        if self.by_hand:
            mem = self.lif.init_leaky()
            for _ in range(3):
                spk, mem = self.lif(self.fc(x), mem)
                outputs.append(spk + mem)
        else:
            utils.reset(self)
            outputs = [self.lif(self.fc(x)) for _ in range(3)]
        return torch.stack(outputs)


@torch.no_grad()
def test_2_states_set_in_forward_are_set_at_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects: the recording of resets. Without it the second call goes on from the state that the first one left."""
    monkeypatch.setattr(snntorch.SpikingNeuron, "instances", [])  # `utils.reset` resets those of other models too
    for by_hand in (True, False):
        model, x = Snn(by_hand=by_hand), torch.rand(2, 4)
        captured = capture(model, x)
        expected = model(x)
        assert expected.any()
        assert torch.equal(captured(x), expected)
        assert torch.equal(captured(x), expected)


def jelly() -> nn.Sequential:
    def lif() -> nn.Module:
        node: nn.Module = neuron.LIFNode(surrogate_function=surrogate.ATan(), v_threshold=0.3, detach_reset=True)
        return node

    net = nn.Sequential(
        layer.Conv2d(2, 4, 3, padding=1), layer.BatchNorm2d(4), lif(), layer.Dropout(0.5), layer.Conv2d(4, 4, 3), lif()
    )
    functional.set_step_mode(net, "m")
    return net


@torch.no_grad()
def test_3_states_are_neither_frozen_nor_lifted_as_constants() -> None:
    """Protects: neurons stay modules that keep their state; capture in the middle of a sequence bakes nothing in."""
    model, x = jelly().eval(), torch.rand(3, 2, 2, 6, 6) * 2
    first, second = model(x), model(x)
    assert not torch.equal(first, second)  # the state goes on from call to call
    captured = capture(model, x)  # while potentials are there
    functional.reset_net(model)
    assert torch.equal(captured(x), first)
    assert torch.equal(captured(x), second)
    functional.reset_net(model)
    assert torch.equal(run_steps(lift(captured, x), x).output, first)
    functional.reset_net(model)
    exported = torch.export.export(model, (x,)).module()
    exported(x)
    assert torch.equal(exported(x), first)  # the trap: the second call has forgotten the first


@torch.no_grad()
def test_4_norms_and_dropout_are_not_run_by_the_trace_and_follow_train_and_eval() -> None:
    """Protects: subclasses of torch's layers are leaves, though their modules are not torch's."""
    model, x = jelly().train(), torch.rand(3, 2, 2, 6, 6) * 2
    captured = capture(model, x)
    assert int(model[1].num_batches_tracked) == 0  # type: ignore[arg-type]
    twin = copy.deepcopy(model)
    for one in (captured, twin):
        functional.reset_net(one)
        torch.manual_seed(1)
        one(x)
    assert int(model[1].num_batches_tracked) == 1  # type: ignore[arg-type]
    assert all(map(torch.equal, model.state_dict().values(), twin.state_dict().values()))
    functional.reset_net(model)
    functional.reset_net(twin)
    assert torch.equal(captured.eval()(x), twin.eval()(x))


class WithOptions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.spike = nn.Linear(4, 4), IF(v_threshold=0.3)

    def forward(self, x: Tensor, state: Tensor | None = None, hook: dict[str, Tensor] | None = None) -> Tensor:
        y = self.fc(x) if state is None else self.fc(x) + state
        y = self.spike(y)
        if hook is not None:
            hook["spikes"] = y
        return y  # type: ignore[no-any-return]


@torch.no_grad()
def test_5_optional_arguments_are_no_inputs() -> None:
    """Protects: arguments with a default stay python values, so that `if state is None` is decided at the trace."""
    model, x = WithOptions(), torch.rand(3, 2, 4)
    captured = capture(model, x)
    assert [n.name for n in captured.graph.find_nodes(op="placeholder")] == ["x"]
    expected = captured(x)
    model.spike.reset()
    assert torch.equal(model(x), expected)
    model.spike.reset()
    assert torch.equal(run_steps(lift(captured, x), x).output, expected)


class Reshapes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.spike = nn.Conv2d(2, 3, 3), IF(v_threshold=0.2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x.flatten(0, 1))
        return self.spike(y.view(x.shape[0], x.shape[1], *y.shape[1:])).flatten(2)  # type: ignore[no-any-return]


@torch.no_grad()
def test_6_the_graph_is_not_bound_to_the_batch_and_the_steps_of_the_example() -> None:
    """Protects: sizes are recorded as calls and not as numbers; the step graph says each step once."""
    model, x = Reshapes(), torch.rand(3, 2, 2, 5, 5)
    captured = capture(model, x)
    step_graph = lift(captured, x)
    for shape in ((3, 4), (5, 2), (1, 1)):
        y = torch.rand(*shape, 2, 5, 5)
        model.spike.reset()
        expected = model(y)
        model.spike.reset()
        assert torch.equal(captured(y), expected)
        assert torch.equal(run_steps(step_graph, y).output, expected)
