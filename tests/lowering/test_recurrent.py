"""Graphs whose spikes go round: native code and ONNX models equal the reference, in sequences and by step."""

from __future__ import annotations

import operator
from collections.abc import Callable
from pathlib import Path

import neuron_kinds
import pytest
import torch
from recurrent_networks import NUM_STEPS, RECURRENT, RECURRENT_MODELS, a_current_goes_round, lower_recurrent, vectors
from step_graphs import StepGraphBuilder, randomize
from torch import nn
from torch.fx import Node

from spikenm_compile.artifact.directory import read_artifact
from spikenm_compile.compiler import compile_model, lower
from spikenm_compile.errors import PassError
from spikenm_compile.graph import Region, run_steps
from spikenm_compile.lowering.native import plan
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

TARGETS: list[Target] = [Native(), Onnx()]


@pytest.mark.parametrize("target", TARGETS, ids=["native", "onnx"])
@pytest.mark.parametrize(
    ("make", "per_step"),
    [*((make, True) for make in RECURRENT), (vectors, False), (a_current_goes_round, False)],
    ids=lambda value: getattr(value, "__name__", "per-step" if value else "static"),
)
def test_artifact_equals_the_reference(
    tmp_path: Path, make: Callable[[StepGraphBuilder], Node], per_step: bool, target: Target
) -> None:
    graph, x = lower_recurrent(make, target.families, per_step=per_step)
    spikes = run_steps(graph, x, None if per_step else NUM_STEPS).spikes
    assert all(0.01 < (s != 0).float().mean() < 0.99 and (s[1:] != s[:-1]).any() for s in spikes.values())
    write_package(graph, target, tmp_path / "a", name="test", pattern=Pattern(2, 4), samples=x)
    checks = verify(tmp_path / "a", {"given": x})
    assert {check.form for check in checks} == {"sequence", "step"}
    assert all(check.passed and check.compared for check in checks)


@pytest.mark.parametrize("target", ["native", "onnx"])
@pytest.mark.parametrize("name", RECURRENT_MODELS)
def test_models_of_the_libraries(tmp_path: Path, name: str, target: str) -> None:
    torch.manual_seed(0)
    model, x = RECURRENT_MODELS[name]().eval(), torch.rand(NUM_STEPS, 6, 16)
    graph = lower(model, x, target=target)
    spikes = run_steps(graph, x).spikes
    assert all(0.01 < s.mean() < 0.99 for s in spikes.values())
    compile_model(model, x, tmp_path / "a", target=target)
    checks = verify(tmp_path / "a", {"given": x})
    assert {check.form for check in checks} == {"sequence", "step"}
    assert all(check.passed and check.compared for check in checks)


def test_what_is_built_and_how_long_a_call_is(tmp_path: Path) -> None:
    graph, x = lower_recurrent(vectors, Native().families, per_step=True)
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
    first, second = b.state("first", (3, 4, 1)), b.state("second", (12,))
    n = b.neuron("lif", b.x, neuron_kinds.two_inputs(12), (second,))
    b.states += [(first, b.layer("unflatten", nn.Unflatten(1, (3, 4, 1)), n))]
    b.states += [(second, b.layer("flatten", nn.Flatten(), first))]
    with pytest.raises(PassError, match="the state 'second' is a copy of 'first'"):
        plan(b.output(n), 64, 4)
    b = StepGraphBuilder((12,), per_step=True)
    previous = b.state("previous", (12,))
    n = b.neuron("lif", b.x, neuron_kinds.two_inputs(12), (previous,))
    b.states.append((previous, n))
    graph = b.output(b.function(operator.mul, previous, 2.0, region=Region.AFTER))
    with pytest.raises(PassError, match="the state 'previous' is read after the last step; native code copies"):
        plan(graph, 64, 4)
