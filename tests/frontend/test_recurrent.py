"""Recurrent layers with weights: the lifted step graph and the captured graph equal their library."""

from __future__ import annotations

from collections.abc import Callable

import norse.torch as norse
import pytest
import sinabs.layers as sl
import snntorch as snn
import torch
from frontend.recurrent_zoo import BATCH_FIRST, HIDDEN, IN, ON_MAPS, ON_VECTORS, B, Hidden, T, fc
from spikingjelly.activation_based import layer, neuron
from torch import Tensor, nn
from torch.fx import GraphModule

from spikenm_compile.errors import CaptureError
from spikenm_compile.frontend.adapters import canonical, reset_states
from spikenm_compile.frontend.capture import capture
from spikenm_compile.frontend.lift import lift
from spikenm_compile.graph import Role, format_graph, initial_states, placeholders, run_steps
from spikenm_compile.neurons import Neuron, SpikingNeuron

VECTORS = (T, B, IN)
MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    **{name: (make, VECTORS, 0) for name, make in ON_VECTORS.items()},
    **{f"sinabs-{name}": (make, (B, T, IN), 1) for name, make in BATCH_FIRST.items()},
    **{f"maps-{name}": (make, (T, B, 3, 6, 6), 0) for name, make in ON_MAPS.items()},
}


def made(name: str) -> tuple[nn.Module, Tensor, int]:
    """Model, input, and the dimension in which it has time."""
    torch.manual_seed(1)
    make, shape, time = MODELS[name]
    return make(), 2.0 * torch.randn(shape), time


def lifted(model: nn.Module, x: Tensor) -> GraphModule:
    return lift(capture(model.eval(), x), x)


@pytest.mark.parametrize("name", MODELS)
def test_step_graph_equals_the_library(name: str) -> None:
    model, x, time = made(name)
    graph = lifted(model, x)
    with torch.no_grad():
        expected = model(x).transpose(0, time)
        result = run_steps(graph, x.transpose(0, time))
    assert torch.equal(result.output, expected)
    assert 0.002 < (expected != 0).float().mean() < 0.9
    assert (expected[1:] != expected[:-1]).any()


@pytest.mark.parametrize("name", MODELS)
def test_feedback_matters(name: str) -> None:
    """Else the test above would pass without any."""
    model, x, time = made(name)
    graph, x = lifted(model, x), x.transpose(0, time)
    (name,) = (n.name for n in placeholders(graph, Role.STATE) if n.name.endswith(("_spk", "_z", "_y", "_rec")))
    expected, states, outputs = run_steps(graph, x).output, initial_states(graph, B), list[Tensor]()
    for t in range(T):
        result = run_steps(graph, x[t : t + 1], states={**states, name: torch.zeros_like(states[name])})
        states, outputs = result.states, [*outputs, result.output]
    assert not torch.equal(torch.cat(outputs), expected)


def gradients(model: nn.Module, call: Callable[[Tensor], Tensor], x: Tensor) -> list[Tensor | None]:
    for parameter in model.parameters():
        parameter.grad = None
    call(x).square().mean().backward()  # type: ignore[no-untyped-call]
    return [None if p.grad is None else p.grad.clone() for p in model.parameters()]


@pytest.mark.parametrize("name", MODELS)
def test_captured_graph_trains_as_the_library_does(name: str) -> None:
    model, x, _ = made(name)
    model.eval()  # a Dropout would draw another mask
    captured = capture(model, x)
    reset_states(model)
    expected = gradients(model, model, x)
    reset_states(model)
    actual = gradients(model, captured, x)
    assert any(g is not None and g.any() for g in expected)
    for a, b in zip(actual, expected, strict=True):
        assert (a is None) == (b is None)
        assert a is None or b is None or torch.equal(a, b)


def test_parameters_are_shared_and_layers_are_named_by_the_user_s_path() -> None:
    recurrent = norse.LIFRecurrent(IN, HIDDEN)
    cell = snn.RLeaky(beta=0.9, linear_features=HIDDEN, init_hidden=True)
    graph = lifted(norse.SequentialState(recurrent), torch.rand(VECTORS))
    assert graph.get_submodule("0_recurrent_weights").weight is recurrent.recurrent_weights
    assert graph.get_submodule("0_input_weights").weight is recurrent.input_weights
    graph = lifted(Hidden(fc(), cell), torch.rand(VECTORS))
    names = [node.meta["layer"] for node in graph.graph.nodes if node.op == "call_module"]
    assert names == ["front", "cell.recurrent", "cell"]
    assert graph.get_submodule("cell_recurrent").weight is cell.recurrent.weight


def test_text_of_a_container() -> None:
    model = nn.Sequential(nn.Linear(3, 5), layer.LinearRecurrentContainer(neuron.IFNode(), 5, 5, step_mode="m"))
    text = format_graph(lifted(model, torch.rand(4, 2, 3)))
    assert "%cat: [B, 10] = cat((%_0, %_1_y), 1)" in text
    assert "%_1_rc: [B, 5] = Linear[1_rc](%cat)" in text


class TwoInputs(nn.Module):
    """A hand-written neuron of two inputs, in both modes."""

    def __init__(self, step_mode: str) -> None:
        super().__init__()
        neuron = Neuron(("h = 0.9 * v + x + y", "s = h > 1", "v = h - s"), {"v": 0.0}, inputs=("x", "y"))
        self.left, self.right = fc(), fc()
        self.lif = SpikingNeuron(neuron, step_mode=step_mode)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        self.lif.reset()
        if self.lif.step_mode == "m":
            out: Tensor = self.lif(self.left(x), self.right(x))
            return out
        return torch.stack([self.lif(self.left(x_t), self.right(x_t)) for x_t in x])


@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_a_neuron_of_two_inputs_written_by_hand(step_mode: str) -> None:
    model, x = TwoInputs(step_mode), torch.randn(VECTORS)
    graph = lifted(model, x)
    assert torch.equal(run_steps(graph, x).output, model(x))


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "layer-without-form": (
        lambda: nn.Sequential(nn.Linear(IN, 8), sl.LIFRecurrent(5.0, nn.GRU(8, 8))),
        r"layer '1.rec_connect' is a GRU; a step graph takes Conv1d, .* and neurons; replace it",
    ),
    "another-shape": (
        lambda: nn.Sequential(nn.Linear(IN, 8), sl.LIFRecurrent(5.0, nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 3)))),
        r"'.*' of shape \[4, 3\] is the next value of '_1_rec' of shape \[4, 8\]; a state keeps its shape",
    ),
    "function": (
        lambda: nn.Sequential(
            nn.Linear(IN, 8), layer.ElementWiseRecurrentContainer(neuron.IFNode(), torch.maximum, step_mode="m")
        ),
        r"element_wise_function of an ElementWiseRecurrentContainer is no arithmetic \(it calls maximum\); \+ - \* /",
    ),
    "branch": (
        lambda: nn.Sequential(
            nn.Linear(IN, 8),
            layer.ElementWiseRecurrentContainer(neuron.IFNode(), lambda y, x: x if x > 1 else y, step_mode="m"),
        ),
        "is no arithmetic .*; write it with these",
    ),
    "no-feedback": (
        lambda: nn.Sequential(
            nn.Linear(IN, 8), layer.ElementWiseRecurrentContainer(neuron.IFNode(), lambda y, x: x, step_mode="m")
        ),
        r"is no arithmetic \(it does not use the previous output\)",
    ),
    "no-neuron": (
        lambda: nn.Sequential(nn.Linear(IN, 8), layer.LinearRecurrentContainer(nn.Linear(8, 8), 8, 8, step_mode="m")),
        "layer '1': a LinearRecurrentContainer holds a Linear; a single-step neuron of SpikingJelly, .*is supported",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name: str) -> None:
    make, message = REFUSED[name]
    shape = (B, T, IN) if "1.rec" in message or "_1_rec" in message else VECTORS
    model, x = make(), torch.rand(shape)
    with pytest.raises(CaptureError, match=message) as caught:
        lifted(model, x)
    assert "\n" not in str(caught.value)


def test_subclasses_of_containers_are_refused() -> None:
    class Own(layer.LinearRecurrentContainer):  # type: ignore[misc]
        pass

    with pytest.raises(CaptureError, match="SpikingJelly's Own has no canonical neuron"):
        canonical(Own(neuron.IFNode(), 4, 4))
