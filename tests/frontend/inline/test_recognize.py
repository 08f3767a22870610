"""Models whose neurons are code in forward: captured, lifted, built."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from frontend.inline.inline_zoo import ZOO, example, fire, make
from torch import Tensor, nn

import spikenm_compile
from spikenm_compile.errors import CaptureError
from spikenm_compile.frontend.capture import capture
from spikenm_compile.frontend.inline.leaf import InlineNeuron
from spikenm_compile.frontend.inline.recognize import recognize_neurons
from spikenm_compile.frontend.lift import lift
from spikenm_compile.frontend.readings import LAYOUT, steps_first
from spikenm_compile.graph import run_steps
from spikenm_compile.ops import NeuronStep


@pytest.mark.parametrize("num_steps", [2, 4])
@pytest.mark.parametrize("name", ZOO)
@torch.no_grad()
def test_captured_and_lifted_equal_the_model(name: str, num_steps: int) -> None:
    if num_steps != 4 and ZOO[name][2] in ("", "T4"):
        pytest.skip("this model fixes T itself")
    model, x = make(name), example(name, num_steps=num_steps)
    captured = capture(model, x)
    assert torch.equal(captured(x), model(x))
    assert torch.equal(captured(x), model(x))
    step_graph = lift(captured, x)
    assert step_graph.meta["num_steps"] == num_steps
    fired = False
    for batch, steps, seed in ((3, num_steps, 0), (2, num_steps, 1), (5, 7, 2)):
        if ZOO[name][2] in ("", "T4"):
            steps = 4
        sample = example(name, batch=batch, num_steps=steps, seed=seed)
        expected = model(sample)
        fired |= bool(expected.any())
        actual = run_steps(step_graph, steps_first(step_graph.meta[LAYOUT], sample), steps).output
        assert torch.equal(actual, expected)
    assert fired


def hoisted(fc: nn.Linear, x: Tensor) -> Tensor:
    current = fc(x)
    mem: Any = 0.0
    out: Any = 0.0
    for _ in range(4):
        mem = mem + (current - mem) / 2.0
        z = fire(mem - 0.1)
        mem, out = mem * (1 - z), out + z
    return out  # type: ignore[no-any-return]


def in_place(fc: nn.Linear, x: Tensor) -> Tensor:
    mem, out = torch.zeros(x.shape[1], 6), torch.zeros(x.shape[1], 6)
    for t in range(x.shape[0]):
        mem.mul_(0.5).add_(fc(x[t]))
        z = (mem >= 0.1) * 1.0
        mem[z > 0] = -0.25
        out += z
    return out


def one_behind_the_other(fc: nn.Linear, x: Tensor) -> Tensor:
    mem: Any = 0.0
    second: Any = 0.0
    out: Any = 0.0
    for x_t in x:
        mem = mem * 0.5 + fc(x_t)
        z = fire(mem - 0.1)
        mem = mem * (1 - z)
        second = second * 0.5 + z
        z = fire(second - 0.8)
        second, out = second * (1 - z), out + z
    return out  # type: ignore[no-any-return]


def counts(fc: nn.Linear, x: Tensor) -> Tensor:
    mem: Any = 0.0
    out: Any = 0.0
    for x_t in x:
        mem = mem * 0.25 + 4 * fc(x_t)
        z = torch.round(torch.clamp(mem, 0, 4))
        mem, out = mem - z, out + z
    return out  # type: ignore[no-any-return]


def integrator_read_at_each_step(fc: nn.Linear, x: Tensor) -> Tensor:
    mem: Any = 0.0
    second: Any = 0.0
    out: Any = 0.0
    for x_t in x:
        mem = mem * 0.5 + fc(x_t)
        z = fire(mem - 0.1)
        mem, second = mem - z, second + z
        out = torch.maximum(out, second) if isinstance(out, Tensor) else second
    return out  # type: ignore[no-any-return]


@pytest.mark.parametrize("num_steps", [2, 4])
@pytest.mark.parametrize("forward", [hoisted, in_place, one_behind_the_other, counts, integrator_read_at_each_step])
@torch.no_grad()
def test_more_ways_to_write_a_neuron(forward: Any, num_steps: int) -> None:
    model = net(forward)
    x = torch.rand(3, 6) if forward is hoisted else torch.rand(num_steps, 3, 6)
    step_graph = lift(capture(model, x), x)
    for steps, batch in ((num_steps, 3), (num_steps, 2), (6, 4)):
        steps = 4 if forward is hoisted else steps
        sample = torch.rand(*([] if forward is hoisted else [steps]), batch, 6) * 3
        expected = model(sample)
        assert expected.any()
        actual = run_steps(step_graph, sample, steps).output
        assert torch.equal(actual, expected)


def test_gradients_of_the_captured_graph_are_the_models() -> None:
    for name in ("membrane list, hard reset", "STBP", "two states, stacked"):
        model, x = make(name).train(), example(name)
        gradients = []
        for run in (model, capture(model, x)):
            model.zero_grad()
            run(x).square().sum().backward()
            gradients.append([p.grad for p in model.parameters() if p.grad is not None])
        assert len(gradients[0]) == len(gradients[1]) > 4
        assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_lifting_leaves_the_captured_graph_alone() -> None:
    model, x = make("STBP"), example("STBP")
    captured = capture(model, x)
    before = [str(node) for node in captured.graph.nodes]
    lift(captured, x)
    assert [str(node) for node in captured.graph.nodes] == before
    assert torch.equal(captured(x), model(x))


def test_the_users_variables_become_equations_and_states() -> None:
    model, x = make("membrane list, hard reset"), example("membrane list, hard reset")
    steps = [m for m in lift(capture(model, x), x).modules() if isinstance(m, NeuronStep)]
    assert [str(m.neuron) for m in steps] == [
        "h = (v * 0.25) + x; s = (h - 0.3) > 0.0; v = h * (1.0 - s)",
        "h = (v * 0.25) + x; s = (h - 0.3) > 0.0; v = h * (1.0 - s)",
        "h = (v * 0.25) + x; s = (h - 0.1) > 0.0; v = h - (s * 0.1)",
    ]
    model, x = make("batch first"), example("batch first")
    recognized = recognize_neurons(capture(model, x)).graph_module
    names = {name for name, m in recognized.named_modules() if isinstance(m, InlineNeuron)}
    assert names == {"act1", "act2"}


@pytest.mark.parametrize("name", ["membrane list, hard reset", "two states, last potential"])
def test_it_builds(name: str, tmp_path: Path) -> None:
    model, x = make(name), example(name)
    artifact = spikenm_compile.compile_model(model, x, tmp_path / "artifact")
    checks = spikenm_compile.verify(artifact.path)
    assert checks
    assert all(check.passed for check in checks)


def test_layers_between_inline_neurons_learn_masks() -> None:
    model, x = make("membrane list, soft reset"), example("membrane list, soft reset")
    spikenm_compile.transform(model, "2:4", example_inputs=x, report=None)
    model(x).sum().backward()
    spikenm_compile.fold(model)
    weight = model.get_submodule("convs.1").weight
    assert isinstance(weight, torch.Tensor)
    assert ((weight.view(8, 2, 4, 3, 3) != 0).sum(2) <= 2).all()


def net(forward: Callable[[nn.Linear, Tensor], Tensor]) -> nn.Module:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            return forward(self.fc, x)

    return Net()


def differing_steps(fc: nn.Linear, x: Tensor) -> Tensor:
    mem: Any = 0.0
    out: Any = 0.0
    for t in range(x.shape[0]):
        mem = mem * (0.5 if t < 2 else 0.75) + fc(x[t])
        z = fire(mem - 0.1)
        mem = mem * (1 - z)
        out = out + z
    return out  # type: ignore[no-any-return]


def first_step_scaled(fc: nn.Linear, x: Tensor) -> Tensor:
    mem = fc(x[0])
    out = fire(mem - 0.1)
    for t in range(1, x.shape[0]):
        mem = mem + (fc(x[t]) - mem) / 2.0
        out = out + fire(mem - 0.1)
    return out


def unknown_function(fc: nn.Linear, x: Tensor) -> Tensor:
    mem: Any = 0.0
    out: Any = 0.0
    for t in range(x.shape[0]):
        mem = torch.tanh(mem * 0.5 + fc(x[t]))
        z = fire(mem - 0.1)
        mem = mem - 0.1 * z
        out = out + z
    return out  # type: ignore[no-any-return]


def two_thresholds(fc: nn.Linear, x: Tensor) -> Tensor:
    mem: Any = 0.0
    out: Any = 0.0
    for t in range(x.shape[0]):
        mem = mem * 0.5 + fc(x[t])
        z = Window.apply(mem)  # type: ignore[no-untyped-call]
        mem = mem * (1 - z)
        out = out + z
    return out  # type: ignore[no-any-return]


def recurrent(fc: nn.Linear, x: Tensor) -> Tensor:
    mem: Any = 0.0
    out = z = torch.zeros_like(x[0])
    for t in range(x.shape[0]):
        mem = mem * 0.5 + fc(x[t]) + fc(z)
        z = fire(mem - 0.1)
        out = out + z
    return out


def place_by_place(fc: nn.Linear, x: Tensor) -> Tensor:
    mem: Any = 0.0
    out: Any = 0.0
    for t in range(x.shape[0]):
        mem = mem * 0.5 + fc(x[t])
        z = fire(mem - torch.arange(18.0).view(3, 6))
        mem = mem * (1 - z)
        out = out + z
    return out  # type: ignore[no-any-return]


class Window(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return ((x > 0.1) & (x < 0.5)).float()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0]


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (differing_steps, "or the steps differ there"),
        (
            first_step_scaled,
            r"in Net at test_recognize.py:\d+ .* uses a value of more than one step before, or the steps differ there",
        ),
        (unknown_function, "neurons? "),
        (
            two_thresholds,
            r"the forward of Window in Net at .*:\d+ .* is not 0 below a threshold and 1 above",
        ),
        (recurrent, "recurrent"),
        (place_by_place, r"has shape \[3, 6\] and another value at each place; one number, or one per channel"),
    ],
)
def test_what_is_not_recognized_is_said(forward: Any, message: str) -> None:
    x = torch.rand(4, 3, 6)
    with pytest.raises(CaptureError, match=message) as caught:
        lift(capture(net(forward), x), x)
    assert "register_neuron" in str(caught.value)


class Remembering(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.mem = nn.Linear(6, 6), torch.zeros(3, 6)

    def forward(self, x: Tensor) -> Tensor:
        self.mem = self.mem * 0.5 + self.fc(x[0])
        return fire(self.mem)


def test_state_in_an_attribute_is_refused_with_the_way_out() -> None:
    with pytest.raises(
        CaptureError,
        match=r"changes its attribute 'mem' at .*:\d+ .*; .*register_neuron",
    ):
        capture(Remembering(), torch.rand(4, 3, 6))


def test_a_branch_on_values_is_refused() -> None:
    def forward(fc: nn.Linear, x: Tensor) -> Tensor:
        y: Tensor = fc(x[0])
        return y if bool(y.sum() > 0) else -y

    with pytest.raises(CaptureError, match=r"python control flow on shapes is supported, on values of tensors"):
        capture(net(forward), torch.rand(4, 3, 6))
