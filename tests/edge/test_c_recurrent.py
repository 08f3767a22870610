"""Portable C of what goes round, of neurons of several inputs and of joins, against the lowered graph, bit for bit."""

from __future__ import annotations

import operator
import shutil
from collections.abc import Callable
from pathlib import Path

import neuron_kinds
import pytest
import torch
from c_networks import CNetwork
from frontend.zoo import SewBlock
from recurrent_networks import NUM_STEPS, RECURRENT, RECURRENT_MODELS, a_current_goes_round, lower_recurrent, vectors
from small_networks import fires, lower_graph
from step_graphs import StepGraphBuilder
from torch import nn
from torch.fx import Node
from zoo import settle

from spikenm_compile.compiler import compile_model, lower
from spikenm_compile.errors import PassError
from spikenm_compile.graph import Region
from spikenm_compile.lowering.c.plan import plan_c
from spikenm_compile.passes.select_kernels import LEVEL_ROWS, SPIKE_ROWS
from spikenm_compile.verification import verify

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")

FAMILIES = (SPIKE_ROWS, LEVEL_ROWS)
Make = Callable[[StepGraphBuilder], Node]


@pytest.mark.parametrize(
    ("make", "per_step"),
    [*((make, True) for make in RECURRENT), (vectors, False), (a_current_goes_round, False)],
    ids=lambda value: getattr(value, "__name__", "per-step" if value else "static"),
)
def test_spikes_that_go_round(tmp_path: Path, make: Make, per_step: bool) -> None:
    graph, x = lower_recurrent(make, FAMILIES, per_step=per_step)
    CNetwork.write(graph, tmp_path).check(x)


def test_spikes_that_go_round_are_read_off_their_bits(tmp_path: Path) -> None:
    network = CNetwork.write(lower_recurrent(vectors, FAMILIES, per_step=True)[0], tmp_path)
    assert {"pack_spikes", "add_spikes"} <= network.program.used


@pytest.mark.parametrize("name", RECURRENT_MODELS)
def test_recurrent_models_of_the_libraries(tmp_path: Path, name: str) -> None:
    torch.manual_seed(0)
    model, x = RECURRENT_MODELS[name]().eval(), torch.rand(NUM_STEPS, 6, 16)
    compile_model(model, x, tmp_path / "a", target="c")
    checks = verify(tmp_path / "a", {"given": x})
    assert {check.form for check in checks} == {"sequence", "step"}
    assert all(check.passed and check.compared for check in checks)


@pytest.mark.parametrize("shape", [(10,), (2, 5, 4)], ids=["vectors", "maps"])
def test_neurons_of_several_inputs_that_no_layer_feeds(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """The model's own input and what a layer makes of it."""
    b = StepGraphBuilder(shape, per_step=True)
    layer = nn.Linear(10, 10) if len(shape) == 1 else nn.Conv2d(2, 2, 3, padding=1)
    n = b.neuron("first", b.layer("rec", layer, b.x), neuron_kinds.two_inputs(shape[0]), (b.x,))
    n = b.neuron("second", n, neuron_kinds.two_inputs(shape[0]), (b.function(operator.mul, n, 0.3),))
    x = torch.rand(5, 6, *shape)
    graph = lower_graph(b.output(n), x, num_steps=5)
    assert all(0.01 < rate < 0.99 for rate in fires(graph, x).values())
    network = CNetwork.write(graph, tmp_path)
    reads_input = [call.function for call in network.program.calls[Region.STEP] if call.reads_input]
    assert reads_input == (["quantize", "fire"] if len(shape) == 1 else ["quantize", "convert"])
    network.check(x)


def test_a_concatenation_is_split(tmp_path: Path) -> None:
    b = StepGraphBuilder((12,), per_step=True)
    first = b.neuron("first", b.layer("fc1", nn.Linear(12, 20), b.x))
    second = b.neuron("second", b.layer("fc2", nn.Linear(20, 9), first))
    n = b.neuron("third", b.layer("fc3", nn.Linear(29, 11), b.concatenation(first, second)))
    x = torch.rand(5, 6, 12)
    CNetwork.write(lower_graph(b.output(n), x, num_steps=5), tmp_path).check(x, flags=("-O1",))


@pytest.mark.parametrize("join", ["AND", "IAND"])
def test_residual_joins_of_spikes(tmp_path: Path, join: str) -> None:
    x = torch.rand(3, 4, 2, 8, 8) * 3
    graph = lower(settle(SewBlock(join), x), x, target="c")
    network = CNetwork.write(graph, tmp_path)
    assert ("not_spikes" in network.program.used) == (join == "IAND")
    assert "and_spikes" in network.program.used
    network.check(x)


def test_a_difference_of_currents(tmp_path: Path) -> None:
    b = StepGraphBuilder((2, 5, 4))
    left, right = (b.layer(name, nn.Conv2d(2, 9, 3), b.x) for name in ("left", "right"))
    n = b.neuron("lif", b.function(operator.sub, b.function(operator.sub, left, right), 0.1))
    x = torch.rand(8, 2, 5, 4)
    CNetwork.write(lower_graph(b.output(n), x, num_steps=5), tmp_path).check(x, flags=("-O1",))


def test_states_that_c_does_not_copy_are_refused() -> None:
    b = StepGraphBuilder((12,), per_step=True)
    previous = b.state("previous", (12,))
    n = b.neuron("lif", b.x, neuron_kinds.two_inputs(12), (previous,))
    b.states.append((previous, n))
    graph = b.output(b.function(operator.mul, previous, 2.0, region=Region.AFTER))
    with pytest.raises(PassError, match="the state 'previous' is read after the last step; native code copies"):
        plan_c(graph, "x_")


@pytest.mark.parametrize(
    ("target", "size", "error"),
    [
        (operator.add, 3, r"'add' joins 'a' \[8, 4, 4\] and 'b' \[8, 2, 2\]; C kernels join values of equal"),
        (operator.pow, 1, r"'add' \(.*pow.*\) has no C kernel; add, sub, mul, div, maximum have one, so"),
    ],
)
def test_joins_without_a_kernel_are_refused(target: object, size: int, error: str) -> None:
    b = StepGraphBuilder((3, 4, 4))
    first, second = (b.layer(name, nn.Conv2d(3, 8, k), b.x) for name, k in (("a", 1), ("b", size)))
    graph = lower_graph(b.output(b.neuron("lif", b.function(operator.add, first, second))), torch.rand(2, 3, 4, 4))
    next(node for node in graph.graph.nodes if node.target is operator.add).target = target
    with pytest.raises(PassError, match=error):
        plan_c(graph, "x_")
