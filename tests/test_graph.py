"""The step graph: running it, checking it, printing it."""

from __future__ import annotations

import operator
from collections.abc import Callable

import pytest
import torch
from conftest import CheckGolden
from step_graphs import LIF, StepGraphBuilder, randomize
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from spikenm_compile.errors import InputError, PassError
from spikenm_compile.graph import (
    REGION,
    ROLE,
    SHAPE,
    Region,
    Role,
    add_module,
    format_captured,
    format_graph,
    initial_states,
    neuron_of,
    next_states,
    placeholders,
    result,
    run_steps,
    spike_nodes,
    the_input,
    verify_graph,
)
from spikenm_compile.neurons import leaky
from spikenm_compile.passes.hoist_time_invariant import HoistTimeInvariant

RESTING = leaky(2.5, decay_input=False, v_threshold=0.7, v_reset=-0.2)


def build(*, per_step: bool = False, readout: str = "mean") -> GraphModule:
    b = StepGraphBuilder((2, 4, 4), per_step=per_step)
    s = b.neuron("lif1", b.layer("conv1", nn.Conv2d(2, 3, 3), b.x))
    s = b.neuron("lif2", b.layer("conv2", nn.Conv2d(3, 5, 2), s), RESTING)
    graph = b.output(b.mean(s) if readout == "mean" else s)
    randomize(graph, 0)
    return graph


def call_step_by_step(graph: GraphModule, x: Tensor, num_steps: int, per_step: bool) -> tuple[Tensor, list[Tensor]]:
    """Outputs of every step and the last states, by nothing but calling the module."""
    batch = x.shape[1 if per_step else 0]
    states: tuple[Tensor, ...] = tuple(initial_states(graph, batch).values())
    outputs = []
    for t in range(num_steps):
        # the readout divides by the steps so far
        output, states = graph(x[t] if per_step else x, t + 1, *states)
        outputs.append(output)
    return torch.stack(outputs), list(states)


@pytest.mark.parametrize("per_step", [False, True])
@pytest.mark.parametrize("readout", ["mean", "sequence"])
def test_run_steps_equals_calling_the_module_step_by_step(per_step: bool, readout: str) -> None:
    graph = build(per_step=per_step, readout=readout)
    x = torch.rand(5, 3, 2, 4, 4) if per_step else torch.rand(3, 2, 4, 4)
    outputs, states = call_step_by_step(graph, x, 5, per_step)
    if not per_step:
        HoistTimeInvariant().apply(graph)
    actual = run_steps(graph, x, None if per_step else 5)
    assert torch.equal(actual.output, outputs if readout == "sequence" else outputs[-1])
    assert actual.output.shape == ((5, 3, 5, 1, 1) if readout == "sequence" else (3, 5, 1, 1))
    assert all(torch.equal(a, e) for a, e in zip(actual.states.values(), states, strict=True))
    assert {name: tuple(s.shape) for name, s in actual.spikes.items()} == {
        "lif1": (5, 3, 3, 2, 2),
        "lif2": (5, 3, 5, 1, 1),
    }
    if readout == "sequence":
        assert torch.equal(actual.spikes["lif2"], outputs)
    assert 0 < actual.spikes["lif1"].mean() < 1
    assert 0 < actual.spikes["lif2"].mean() < 1


def test_a_run_goes_on_from_its_states() -> None:
    graph, x = build(readout="sequence"), torch.rand(3, 2, 4, 4)
    whole = run_steps(graph, x, 5)
    first = run_steps(graph, x, 2)
    rest = run_steps(graph, x, 3, first.states)
    assert torch.equal(torch.cat([first.output, rest.output]), whole.output)
    assert all(torch.equal(rest.states[name], v) for name, v in whole.states.items())
    again = run_steps(graph, x, 3, first.states)
    assert torch.equal(again.output, rest.output)


def test_potentials_start_at_rest() -> None:
    states = initial_states(build(), 3)
    assert {name: tuple(v.shape) for name, v in states.items()} == {
        "lif1_v": (3, 3, 2, 2),
        "lif2_v": (3, 5, 1, 1),
        "total": (3, 5, 1, 1),
    }
    assert states["lif2_v"].flatten().tolist() == pytest.approx([-0.2] * 15)
    assert not states["lif1_v"].any()


@pytest.mark.parametrize("num_steps", [None, 0, -1])
def test_a_static_input_needs_a_number_of_steps(num_steps: int | None) -> None:
    with pytest.raises(InputError, match=f"the number of time steps is {num_steps}; at least one is needed: give"):
        run_steps(build(), torch.rand(1, 2, 4, 4), num_steps)


def test_an_input_of_no_steps_is_an_error() -> None:
    with pytest.raises(InputError, match="the number of time steps is 0"):
        run_steps(build(per_step=True), torch.rand(0, 1, 2, 4, 4))


def test_another_number_of_steps_than_the_input_has_is_an_error() -> None:
    graph, x = build(per_step=True), torch.rand(3, 1, 2, 4, 4)
    with pytest.raises(InputError, match="the input holds 3 time steps and num_steps=4; leave num_steps out"):
        run_steps(graph, x, 4)
    assert torch.equal(run_steps(graph, x, 3).output, run_steps(graph, x).output)


def test_what_is_read_after_the_steps_is_the_last_step() -> None:
    b = StepGraphBuilder((3,), per_step=True)
    graph = b.output(b.function(operator.mul, b.function(operator.mul, b.x, 1.0), 2.0, region=Region.AFTER))
    x = torch.rand(4, 2, 3)
    assert torch.equal(run_steps(graph, x).output, 2 * x[-1])


def test_the_parts_of_a_graph() -> None:
    graph = build()
    assert the_input(graph).name == "x"
    assert [n.name for n in placeholders(graph, Role.STATE)] == ["lif1_v", "lif2_v", "total"]
    assert {s.name: v.name for s, v in next_states(graph).items()} == {
        "lif1_v": "getitem_1",
        "lif2_v": "getitem_3",
        "total": "add",
    }
    assert result(graph).name == "truediv"
    assert {layer: n.name for layer, n in spike_nodes(graph).items()} == {"lif1": "getitem", "lif2": "getitem_2"}
    by_name = {n.name: n for n in graph.graph.nodes}
    neuron = neuron_of(graph, by_name["lif1"])
    assert neuron is not None
    assert neuron.neuron == LIF
    assert neuron_of(graph, by_name["conv1"]) is None


def test_a_new_module_gets_a_free_name() -> None:
    graph = build()
    assert add_module(graph, "features.0", nn.Identity()) == "features_0"
    assert add_module(graph, "features.0", nn.Identity()) == "features_0_1"
    assert add_module(graph, "conv1", nn.Identity()) == "conv1_1"
    assert isinstance(graph.get_submodule("conv1"), nn.Conv2d)


def test_golden(check_golden: CheckGolden) -> None:
    graph = build()
    HoistTimeInvariant().apply(graph)
    check_golden("format-graph", format_graph(graph))
    check_golden("format-graph-sequence", format_graph(build(per_step=True, readout="sequence")))


def test_the_text_of_a_captured_graph() -> None:
    graph = torch.fx.symbolic_trace(nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten()))
    assert format_captured(graph) == (
        "%input_1 = input\n"
        "%_0 = Conv2d[0](%input_1) {2, 3, kernel_size=(3, 3), stride=(1, 1)}\n"
        "%_1 = Flatten[1](%_0) {start_dim=1, end_dim=-1}\n"
        "return %_1\n"
    )


def named(graph: GraphModule, name: str) -> Node:
    found: Node = next(n for n in graph.graph.nodes if n.name == name)
    return found


def no_role(graph: GraphModule) -> None:
    del named(graph, "lif1_v").meta[ROLE]


def no_region(graph: GraphModule) -> None:
    del named(graph, "conv2").meta[REGION]


def no_shape(graph: GraphModule) -> None:
    del named(graph, "conv2").meta[SHAPE]


def unknown_function(graph: GraphModule) -> None:
    named(graph, "add").target = operator.sub


def unknown_operation(graph: GraphModule) -> None:
    node = named(graph, "add")
    node.op, node.target = "call_method", "add"


def later_region(graph: GraphModule) -> None:
    named(graph, "conv2").meta[REGION] = Region.BEFORE


def state_before_the_steps(graph: GraphModule) -> None:
    for name in ("conv1", "lif1"):
        named(graph, name).meta[REGION] = Region.BEFORE


BROKEN: dict[Callable[[GraphModule], None], str] = {
    no_role: "placeholder 'lif1_v' has no role",
    no_region: "node 'conv2' lacks its region or shape annotation",
    no_shape: "node 'conv2' lacks its region or shape annotation",
    unknown_function: r"'add' calls <built-in function sub>; a step graph may call \['add', 'cat', 'div', .*'mul'\]",
    unknown_operation: "node 'add' is a call_method; a step graph holds call_module and call_function only",
    later_region: "node 'conv2' in region before uses 'getitem' of a later one",
    state_before_the_steps: "node 'lif1' in region before uses 'lif1_v' of a later one",
}


@pytest.mark.parametrize("damage", BROKEN, ids=lambda f: f.__name__)
def test_an_illegal_graph_is_named(damage: Callable[[GraphModule], None]) -> None:
    graph = build()
    verify_graph(graph)
    damage(graph)
    with pytest.raises(PassError, match=BROKEN[damage]):
        verify_graph(graph)


def test_an_input_of_each_step_cannot_be_used_before_the_steps() -> None:
    graph = build(per_step=True)
    named(graph, "conv1").meta[REGION] = Region.BEFORE
    with pytest.raises(PassError, match="node 'conv1' in region before uses 'x' of a later one"):
        verify_graph(graph)
