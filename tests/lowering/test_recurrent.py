"""Graphs whose spikes go round: native code and ONNX models equal the reference, in sequences and by step."""

from __future__ import annotations

import operator
from collections.abc import Callable
from pathlib import Path

import neuron_kinds
import norse.torch as norse
import pytest
import snntorch as snn
import torch
from neuron_kinds import Kind
from spikingjelly.activation_based import layer, neuron
from step_graphs import StepGraphBuilder, randomize
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from spikenm_compile.artifact.directory import read_artifact
from spikenm_compile.compiler import compile_model, lower
from spikenm_compile.errors import PassError
from spikenm_compile.graph import Region, run_steps
from spikenm_compile.lowering.native import plan
from spikenm_compile.neurons import Neuron, leaky
from spikenm_compile.package import write_package
from spikenm_compile.passes.base import run_pipeline
from spikenm_compile.passes.pipelines import lowering
from spikenm_compile.passes.quantize_inputs import choose_levels
from spikenm_compile.pattern import Pattern
from spikenm_compile.runtime import load
from spikenm_compile.targets.base import Target
from spikenm_compile.targets.native import Native
from spikenm_compile.targets.onnx import Onnx
from spikenm_compile.verification import verify

NUM_STEPS = 7
TARGETS: list[Target] = [Native(), Onnx()]


def recurrent(
    b: StepGraphBuilder,
    name: str,
    x: Node,
    back: nn.Module,
    kind: Kind = neuron_kinds.two_inputs,
    source: Node | None = None,
) -> Node:
    """A layer of neurons that reads `x` and what `back` makes of its own output at the step before."""
    shape = x.meta["shape"]
    previous = b.state(f"{name}_previous", shape)
    spikes = b.neuron(name, x, kind(shape[0]), (b.layer(f"{name}_back", back, previous),))
    b.states.append((previous, spikes))
    return spikes


def vectors(b: StepGraphBuilder) -> Node:
    """70 neurons: more than a word of bits, and no whole number of words."""
    n = recurrent(b, "first", b.layer("fc", nn.Linear(12, 70), b.x), nn.Linear(70, 70))
    return b.layer("head", nn.Linear(70, 5), n)


def maps(b: StepGraphBuilder) -> Node:
    """A halo around the previous spikes; a pool and a second layer behind."""
    n = recurrent(b, "first", b.layer("conv1", nn.Conv2d(2, 20, 3, padding=1), b.x), nn.Conv2d(20, 20, 5, padding=2))
    n = b.layer("conv2", nn.Conv2d(20, 9, 3), b.layer("pool", nn.MaxPool2d(2), n))
    return b.neuron("second", n, leaky(2.0, v_threshold=6.0))


def grouped(b: StepGraphBuilder) -> Node:
    """A dense kernel reads the previous spikes as bytes."""
    back = nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=2)
    return recurrent(b, "first", b.layer("conv1", nn.Conv2d(2, 8, 3, padding=1), b.x), back)


def two_layers(b: StepGraphBuilder) -> Node:
    n = recurrent(b, "first", b.layer("fc1", nn.Linear(12, 33), b.x), nn.Linear(33, 33))
    return recurrent(b, "second", b.layer("fc2", nn.Linear(33, 20), n), nn.Linear(20, 20, bias=False))


def counts(b: StepGraphBuilder) -> Node:
    """Neurons that emit -1, 0 and 1."""

    def kind(channels: int) -> Neuron:
        equations = ("h = v + x + rec", *neuron_kinds.ternary(channels).equations[1:])
        levels = neuron_kinds.ternary(channels).levels
        return Neuron(equations, {"v": 0.0}, {"th": 0.6}, levels=levels, inputs=("x", "rec"))

    return recurrent(b, "first", b.layer("fc", nn.Linear(12, 33), b.x), nn.Linear(33, 33), kind)


def a_current_goes_round(b: StepGraphBuilder) -> Node:
    """What the layer makes of the spikes waits for the next step."""
    previous = b.state("rec", (33,))
    n = b.neuron("first", b.layer("fc", nn.Linear(12, 33), b.x), neuron_kinds.two_inputs(33), (previous,))
    b.states.append((previous, b.layer("back", nn.Linear(33, 33), n)))
    return n


def spikes_as_current(b: StepGraphBuilder) -> Node:
    """Neurons that read their previous spikes without a layer."""
    previous = b.state("previous", (33,))
    n = b.neuron("first", b.layer("fc", nn.Linear(12, 33), b.x), neuron_kinds.two_inputs(33), (previous,))
    b.states.append((previous, n))
    return n


def over_two_layers(b: StepGraphBuilder) -> Node:
    """The second layer feeds the first."""
    previous = b.state("previous", (20,))
    back = b.layer("back", nn.Linear(20, 33), previous)
    n = b.neuron("first", b.layer("fc1", nn.Linear(12, 33), b.x), neuron_kinds.two_inputs(33), (back,))
    n = b.neuron("second", b.layer("fc2", nn.Linear(33, 20), n))
    b.states.append((previous, n))
    return n


SHAPES: dict[Callable[[StepGraphBuilder], Node], tuple[int, ...]] = {
    vectors: (12,),
    maps: (2, 6, 7),
    grouped: (2, 6, 7),
    two_layers: (12,),
    counts: (12,),
    a_current_goes_round: (12,),
    spikes_as_current: (12,),
    over_two_layers: (12,),
}


def built(make: Callable[[StepGraphBuilder], Node], target: Target, *, per_step: bool) -> tuple[GraphModule, Tensor]:
    shape = SHAPES[make]
    b = StepGraphBuilder(shape, per_step=per_step)
    n = make(b)
    graph = b.output(n if per_step else b.mean(n))
    torch.manual_seed(0)
    randomize(graph, 0)
    graph.meta["num_steps"] = NUM_STEPS
    x = torch.rand((NUM_STEPS, 6, *shape) if per_step else (6, *shape))
    return run_pipeline(lowering(choose_levels(x), Pattern(2, 4), target.families), graph), x


@pytest.mark.parametrize("target", TARGETS, ids=["native", "onnx"])
@pytest.mark.parametrize("per_step", [False, True], ids=["static", "per-step"])
@pytest.mark.parametrize("make", SHAPES, ids=lambda f: f.__name__)
def test_artifact_equals_the_reference(
    tmp_path: Path, make: Callable[[StepGraphBuilder], Node], per_step: bool, target: Target
) -> None:
    graph, x = built(make, target, per_step=per_step)
    spikes = run_steps(graph, x, None if per_step else NUM_STEPS).spikes
    assert all(0.01 < (s != 0).float().mean() < 0.99 and (s[1:] != s[:-1]).any() for s in spikes.values())
    write_package(graph, target, tmp_path / "a", name="test", pattern=Pattern(2, 4), samples=x)
    checks = verify(tmp_path / "a", {"given": x})
    assert {check.form for check in checks} == {"sequence", "step"}
    assert all(check.passed and check.compared for check in checks)


class Net(nn.Module):
    """A front, a recurrent layer called as its library wants it, and a classifier."""

    def __init__(self, front: nn.Module, cell: nn.Module) -> None:
        super().__init__()
        self.front, self.cell, self.fc = front, cell, nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.cell, snn.RLeaky):
            states, out = self.cell.reset_mem(), []
            for t in range(x.shape[0]):
                states = self.cell(self.front(x[t]), *states)
                out.append(states[0])
            spikes = torch.stack(out)
        else:
            found = self.cell(self.front(x))
            spikes = found[0] if isinstance(self.cell, norse.LIFRecurrent) else found
        return self.fc(spikes).mean(0)  # type: ignore[no-any-return]


MODELS: dict[str, Callable[[], nn.Module]] = {
    "snntorch": lambda: Net(nn.Linear(16, 32), snn.RLeaky(beta=0.9, linear_features=32, threshold=0.3)),
    "norse": lambda: Net(nn.Identity(), norse.LIFRecurrent(16, 32, norse.LIFParameters(v_th=torch.tensor(0.2)))),
    "spikingjelly": lambda: Net(
        nn.Sequential(nn.Linear(16, 32), neuron.LIFNode(v_threshold=0.1, step_mode="m")),
        layer.LinearRecurrentContainer(neuron.LIFNode(v_threshold=0.1), 32, 32, step_mode="m"),
    ),
}


@pytest.mark.parametrize("target", ["native", "onnx"])
@pytest.mark.parametrize("name", MODELS)
def test_models_of_the_libraries(tmp_path: Path, name: str, target: str) -> None:
    torch.manual_seed(0)
    model, x = MODELS[name]().eval(), torch.rand(NUM_STEPS, 6, 16)
    graph = lower(model, x, target=target)
    spikes = run_steps(graph, x).spikes
    assert all(0.01 < s.mean() < 0.99 for s in spikes.values())
    compile_model(model, x, tmp_path / "a", target=target)
    checks = verify(tmp_path / "a", {"given": x})
    assert {check.form for check in checks} == {"sequence", "step"}
    assert all(check.passed and check.compared for check in checks)


def test_what_is_built_and_how_long_a_call_is(tmp_path: Path) -> None:
    graph, x = built(vectors, Native(), per_step=True)
    kernels = {m.layer: m.kernel for m in graph.modules() if hasattr(m, "kernel")}
    assert kernels == {"fc": "dense-rows", "first_back": "event-rows", "head": "event-rows"}
    assert plan(graph, 64, NUM_STEPS).max_steps == 1
    write_package(graph, Native(), tmp_path / "a", name="test", pattern=Pattern(2, 4), samples=x)
    artifact = read_artifact(tmp_path / "a")
    assert artifact.manifest.code["max_steps"] == 1
    long = torch.rand(50, 2, 12)
    assert torch.equal(torch.from_numpy(load(tmp_path / "a").run(long.numpy())), run_steps(graph, long).output)


def test_a_feed_forward_graph_runs_many_steps_in_a_call() -> None:
    b = StepGraphBuilder((12,))
    graph = b.output(b.mean(b.neuron("lif", b.layer("fc", nn.Linear(12, 9), b.x))))
    randomize(graph, 0)
    graph = run_pipeline(lowering(choose_levels(torch.rand(2, 12)), Pattern(2, 4), Native().families), graph)
    assert plan(graph, 64, NUM_STEPS).max_steps == NUM_STEPS


def test_states_that_native_code_does_not_copy_are_refused() -> None:
    b = StepGraphBuilder((12,), per_step=True)
    first, second = b.state("first", (12,)), b.state("second", (12,))
    n = b.neuron("lif", b.x, neuron_kinds.two_inputs(12), (second,))
    b.states += [(first, n), (second, first)]
    with pytest.raises(PassError, match="the state 'second' is a copy of 'first'; native code copies what a step"):
        plan(b.output(n), 64, 4)
    b = StepGraphBuilder((12,), per_step=True)
    previous = b.state("previous", (12,))
    n = b.neuron("lif", b.x, neuron_kinds.two_inputs(12), (previous,))
    b.states.append((previous, n))
    graph = b.output(b.function(operator.mul, previous, 2.0, region=Region.AFTER))
    with pytest.raises(PassError, match="the state 'previous' is read after the last step; native code copies"):
        plan(graph, 64, 4)
