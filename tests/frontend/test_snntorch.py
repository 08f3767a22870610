from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import snntorch as snn
import torch
from frontend.snntorch_zoo import NUM_STEPS, ZOO, FunctionalCnn, HiddenCnn, Stepwise, TutorialMlp, example, make
from snntorch import utils
from torch import Tensor, nn

from spikenm_compile.compiler import compile_model, fold, lift_model, transform
from spikenm_compile.errors import CaptureError
from spikenm_compile.frontend.capture import capture
from spikenm_compile.frontend.lift import lift
from spikenm_compile.graph import Role, placeholders, run_steps, spike_nodes, verify_graph
from spikenm_compile.learning.attach import masked_layers
from spikenm_compile.neurons import SPIKES
from spikenm_compile.ops import NeuronStep
from spikenm_compile.pattern import Pattern
from spikenm_compile.verification import verify


def parts(result: Any) -> tuple[Tensor, ...]:
    return result if isinstance(result, tuple) else (result,)


@torch.no_grad()
def two_calls(model: nn.Module, x: Tensor) -> list[Tensor]:
    """Values of two calls, the second from the state that the first left."""
    torch.manual_seed(1)
    return [value for _ in range(2) for value in parts(model(x))]


@pytest.mark.parametrize("name", ZOO)
def test_captured_equals_the_model(name: str) -> None:
    model, x = make(name)
    for training in (True, False):
        captured = capture(model.train(training), x)
        assert list(captured.state_dict()) == list(model.state_dict())
        twin = copy.deepcopy(captured)
        for batch in (2, 5, 3):
            expected = two_calls(model.eval(), y := example(name, batch))
            actual = two_calls(twin.eval(), y)
            assert len(actual) == len(expected)
            assert all(torch.equal(a, e) for a, e in zip(actual, expected, strict=True))
            assert expected[0].any()


@pytest.mark.parametrize("name", ["tutorial-mlp", "hidden-cnn-both"])
def test_models_that_ask_for_no_shape_need_no_example(name: str) -> None:
    model, x = make(name)
    expected, actual = two_calls(model, x), two_calls(capture(model), x)
    assert all(torch.equal(a, e) for a, e in zip(actual, expected, strict=True))


@pytest.mark.parametrize("name", ["tutorial-mlp", "stepwise-hidden", "hidden-cnn-count", "functional-cnn"])
def test_gradients_are_the_models(name: str) -> None:
    model, x = make(name)
    captured = capture(model, x)
    found = []
    for one in (model, captured):
        model.zero_grad()
        parts(one(x))[0].square().sum().backward()  # type: ignore[no-untyped-call]
        found.append({key: p.grad.clone() for key, p in one.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    assert any(g.any() for g in found[0].values())
    assert all(torch.equal(found[1][key], g) for key, g in found[0].items())


def test_capture_leaves_states_and_classes_alone() -> None:
    model, x = make("hidden-cnn-spikes")
    assert isinstance(model, HiddenCnn)
    before = {name: module.__dict__["_buffers"].copy() for name, module in model.named_modules()}
    methods = [snn.Leaky.__dict__["reset_hidden"], snn.Leaky.__dict__["detach_hidden"]]
    capture(model, x)
    assert [snn.Leaky.__dict__["reset_hidden"], snn.Leaky.__dict__["detach_hidden"]] == methods
    for name, module in model.named_modules():
        assert "reset_mem" not in module.__dict__
        assert all(module._buffers[key] is value for key, value in before[name].items())
        assert list(module._buffers) == list(before[name])


def test_reset_of_whole_classes_leaves_other_models_alone_when_captured() -> None:
    model, x = make("hidden-cnn-spikes")
    other = snn.Leaky(beta=0.9, init_hidden=True)
    captured = capture(model, x)
    other(torch.ones(2, 3))
    captured(x)
    assert other.mem.any()


def test_deep_copies_are_not_reset_by_the_library_nor_when_captured() -> None:
    model, x = make("hidden-cnn-membrane-last")
    twin = copy.deepcopy(model).eval()
    captured = copy.deepcopy(capture(twin, x))
    expected, actual = two_calls(twin, x), two_calls(captured, x)
    assert not torch.equal(expected[0], expected[1])
    assert all(torch.equal(a, e) for a, e in zip(actual, expected, strict=True))


class Detaches(nn.Module):
    """Truncated backpropagation: the state goes on, its gradient does not."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.lif = nn.Linear(8, 8), snn.Leaky(beta=0.9, threshold=0.3, init_hidden=True)

    def forward(self, x: Tensor) -> Tensor:
        snn.Leaky.detach_hidden()
        return torch.stack([self.lif(self.fc(x)) for _ in range(3)])


def test_detached_states_are_recorded() -> None:
    model, x = Detaches(), torch.rand(2, 8)
    captured = capture(model, x)
    for _ in range(2):  # without the detach the second pass would go back through the first
        captured(x).sum().backward()
    with torch.no_grad():
        step_graph = lift(captured, x)
        utils.reset(model)
        assert torch.equal(run_steps(step_graph, x, 3).output, model(x))


class ResetsOneClass(nn.Module):
    """Resets its Leaky neurons only; the Synaptic one goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.lif = nn.Linear(8, 8), snn.Leaky(beta=0.9, threshold=0.3, init_hidden=True)
        self.syn = snn.Synaptic(alpha=0.9, beta=0.9, reset_mechanism="none", init_hidden=True, output=True)

    def forward(self, x: Tensor) -> Tensor:
        snn.Leaky.reset_hidden()
        return torch.stack([self.syn(self.lif(self.fc(x)))[2] for _ in range(3)])


def test_reset_of_one_class_leaves_the_others_of_the_model() -> None:
    model, x = ResetsOneClass(), torch.rand(2, 8)
    captured = capture(model, x)
    results = []
    for one in (model, captured):
        model.syn.reset_mem()
        results.append(two_calls(one, x))
    assert not torch.equal(results[0][0], results[0][1])
    assert all(torch.equal(a, e) for a, e in zip(*results, strict=True))


def test_captured_graph_pickles() -> None:
    model, x = make("tutorial-mlp")
    for module in model.modules():
        if isinstance(module, snn.Leaky):
            module.spike_grad = _spike  # the library's own are closures, which do not pickle
    captured = capture(model, x)
    twin = pickle.loads(pickle.dumps(captured))
    assert all(torch.equal(a, e) for a, e in zip(two_calls(twin, x), two_calls(model, x), strict=True))


def _spike(x: Tensor) -> Tensor:
    return (x > 0).float()


def test_state_read_from_the_outside_is_refused() -> None:
    class Peeks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lif = snn.Leaky(beta=0.9, init_hidden=True)

        def forward(self, x: Tensor) -> Tensor:
            self.lif(x)
            return self.lif.mem  # type: ignore[no-any-return]

    with pytest.raises(CaptureError, match=r"reads the state 'mem' of neuron 'lif' \(Leaky\) .*output=True"):
        capture(nn.Sequential(Peeks()).get_submodule("0"), torch.rand(2, 8))


@torch.no_grad()
def lifted_and_model(model: nn.Module, step_graph: torch.fx.GraphModule, x: Tensor) -> tuple[Tensor, Tensor]:
    for module in model.modules():
        if isinstance(module, snn.SpikingNeuron):
            module.reset_mem()
    return run_steps(step_graph, x, NUM_STEPS if step_graph.meta["num_steps"] == NUM_STEPS else None).output, parts(
        model(x)
    )[0]


@pytest.mark.parametrize("name", ZOO)
def test_step_graph_equals_the_model(name: str) -> None:
    model, x = make(name)
    step_graph = lift(capture(model.eval(), x), x)
    verify_graph(step_graph)
    assert step_graph.meta["num_steps"] == NUM_STEPS
    for batch in (2, 3, 5):
        actual, expected = lifted_and_model(model, step_graph, example(name, batch))
        assert actual.shape == expected.shape
        assert torch.equal(actual, expected)
        assert expected.any()


@pytest.mark.parametrize("num_steps", [1, 2, 7])
def test_step_graph_of_a_stepwise_model_runs_any_number_of_steps(num_steps: int) -> None:
    model, x = make("stepwise-zeros")
    step_graph = lift(capture(model.eval(), x), x)
    y = example("stepwise-zeros", 3, num_steps)
    with torch.no_grad():
        assert torch.equal(run_steps(step_graph, y).output, model(y))


def test_states_are_explicit_and_named_after_the_layers() -> None:
    model, x = make("stepwise-reset_mem")
    step_graph = lift(capture(model.eval(), x), x)
    states = [n.name for n in placeholders(step_graph, Role.STATE)]
    assert states == [
        *("syn1_syn", "syn1_mem"),
        *("alpha2_syn_exc", "alpha2_syn_inh", "alpha2_mem"),
        *("rlif3_spk", "rlif3_mem"),
    ]
    assert list(spike_nodes(step_graph)) == ["syn1", "alpha2", "rlif3"]


def test_last_states_are_the_librarys() -> None:
    model, x = make("stepwise-reset_mem")
    assert isinstance(model, Stepwise)
    result = run_steps(lift(capture(model.eval(), x), x), x)
    with torch.no_grad():
        model(x)
    for name, state in result.states.items():
        layer, _, part = name.partition("_")
        assert torch.equal(state, getattr(model.get_submodule(layer), part)), name


@pytest.mark.parametrize(
    ("readout", "output"),
    [("spikes", "s"), ("both", "s"), ("membrane-last", "s"), ("membrane", "mem"), ("membrane-mean", "mem")],
)
def test_neurons_that_are_read_for_their_potential_emit_it(readout: str, output: str) -> None:
    model, x = make(f"hidden-cnn-{readout}")
    step_graph = lift(capture(model.eval(), x), x)
    neurons = [m.neuron for m in step_graph.modules() if isinstance(m, NeuronStep)]
    assert [n.output for n in neurons] == ["s", "s", output]
    assert [n.levels for n in neurons] == [SPIKES, SPIKES, SPIKES if output == "s" else None]
    assert [n.name for n in placeholders(step_graph, Role.STATE)][:3] == ["net_2_mem", "net_5_mem", "net_9_mem"]


@pytest.mark.parametrize("build", [HiddenCnn, FunctionalCnn, TutorialMlp])
def test_transform_trains_masks_between_neurons(build: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    model = build()
    shape = (16,) if build is TutorialMlp else (2, 8, 8)
    x = torch.rand(8, *shape) * 3
    x = x.expand(NUM_STEPS, *x.shape) if build is FunctionalCnn else x
    labels = torch.arange(8)
    keys = set(model.state_dict())
    transform(model, "2:4", example_inputs=x, total_steps=6, report=None)
    assert keys < set(model.state_dict())
    names = [name for name, _, _ in masked_layers(model)]
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(6):
        out = parts(model(x))[0]
        loss = nn.functional.cross_entropy(out.mean(0) if out.dim() == 3 else out, labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    fold(model)
    expected = {HiddenCnn: ["net.3", "net.8"], FunctionalCnn: ["conv2", "fc"], TutorialMlp: ["fc2"]}
    assert names == expected[build]  # type: ignore[index]
    for name in names:
        weight = model.get_submodule(name).weight
        assert isinstance(weight, Tensor)
        assert Pattern(2, 4).holds(weight)
    assert set(model.state_dict()) == keys


ARTIFACTS = ("tutorial-mlp", "hidden-cnn-both", "hidden-cnn-membrane", "functional-cnn", "stepwise-reset_mem")


@pytest.mark.parametrize("target", ["native", "onnx"])
@pytest.mark.parametrize("name", ARTIFACTS)
def test_artifact_equals_its_reference(name: str, target: str, tmp_path: Path) -> None:
    model, _ = make(name)
    x = example(name, 8)
    compile_model(model.eval(), x, tmp_path / "artifact", target=target)
    checks = verify(tmp_path / "artifact", {"given": x})
    assert all(check.passed for check in checks)
    assert all(check.compared for check in checks)


def test_lift_model_takes_the_library() -> None:
    model, x = make("tutorial-mlp")
    assert len(placeholders(lift_model(model, x), Role.STATE)) == 2
