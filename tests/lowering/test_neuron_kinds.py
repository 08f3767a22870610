"""Neurons of every kind: native code and ONNX models equal the reference bit for bit, alone and fused."""

from __future__ import annotations

import operator
from pathlib import Path

import neuron_kinds
import pytest
import torch
from neuron_kinds import COUNTING, REAL, SPIKING, Kind
from step_graphs import StepGraphBuilder, randomize
from torch import Tensor, nn
from torch.fx import GraphModule

from spikenm_compile.errors import PassError
from spikenm_compile.graph import Region, format_graph, run_steps
from spikenm_compile.lowering.entry import build_objects
from spikenm_compile.lowering.native import plan
from spikenm_compile.lowering.serialize import from_dict, to_dict
from spikenm_compile.neurons import Levels, Neuron
from spikenm_compile.ops import IntConvNeuron
from spikenm_compile.package import write_package
from spikenm_compile.passes.base import run_pipeline
from spikenm_compile.passes.pipelines import lowering
from spikenm_compile.passes.quantize_inputs import choose_levels
from spikenm_compile.pattern import Pattern
from spikenm_compile.targets.base import Target
from spikenm_compile.targets.cpu import X86_64_V2, X86_64_V3, Cpu, cpu_flags, detect
from spikenm_compile.targets.native import Native
from spikenm_compile.targets.onnx import Onnx
from spikenm_compile.verification import verify

NUM_STEPS = 6


def runnable(*cpus: Cpu) -> list[Cpu]:
    return [cpu for cpu in cpus if cpu.machine == detect().machine and cpu_flags().issuperset(cpu.features)]


TARGETS: list[Target] = [Native(cpu=detect()), *(Native(cpu=cpu) for cpu in runnable(X86_64_V2)), Onnx()]
TARGET_NAMES = ["native", *(cpu.name for cpu in runnable(X86_64_V2)), "onnx"]


def lowered(graph: GraphModule, x: Tensor, target: Target) -> GraphModule:
    randomize(graph, 0)
    graph.meta["num_steps"] = NUM_STEPS
    return run_pipeline(lowering(choose_levels(x), Pattern(2, 4), target.families), graph)


def check(graph: GraphModule, x: Tensor, out: Path, target: Target) -> None:
    write_package(graph, target, out, name="test", pattern=Pattern(2, 4), samples=x)
    for result in verify(out, {"given": x}):
        assert result.passed, result
        assert result.compared > 0


def emitted(graph: GraphModule, x: Tensor) -> dict[str, Tensor]:
    with torch.no_grad():
        return run_steps(graph, x, NUM_STEPS).spikes


def chain(kind: Kind) -> GraphModule:
    """A neuron behind a hoisted current, one behind a layer, and one behind a grouped layer."""
    b = StepGraphBuilder((2, 5, 4))
    n = b.neuron("first", b.layer("conv1", nn.Conv2d(2, 21, 3, padding=1), b.x), kind(21))
    n = b.neuron("second", b.layer("conv2", nn.Conv2d(21, 24, 2), n), kind(24))
    n = b.neuron("third", b.layer("conv3", nn.Conv2d(24, 12, 3, groups=4), n), kind(12))
    return b.output(b.mean(b.layer("fc", nn.Linear(24, 5), b.layer("flatten", nn.Flatten(), n))))


@pytest.mark.parametrize("target", TARGETS, ids=TARGET_NAMES)
@pytest.mark.parametrize("kind", [*SPIKING, *COUNTING], ids=lambda kind: kind.__name__)
def test_spikes_and_counts(tmp_path: Path, kind: Kind, target: Target) -> None:
    x = torch.rand(40, 2, 5, 4)
    graph = lowered(chain(kind), x, target)
    for layer, values in emitted(graph, x).items():
        assert 0.01 < (values != 0).float().mean() < 0.99, layer
    is_fused = isinstance(graph.get_submodule("second"), IntConvNeuron)
    assert is_fused == (kind in SPIKING)
    check(graph, x, tmp_path / "a", target)


@pytest.mark.parametrize("target", TARGETS, ids=TARGET_NAMES)
@pytest.mark.parametrize("kind", [*REAL], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("readout", ["mean", "sequence"])
def test_real_numbers_are_read_out(tmp_path: Path, kind: Kind, target: Target, readout: str) -> None:
    x = torch.rand(12, 2, 5, 4)
    b = StepGraphBuilder((2, 5, 4))
    n = b.neuron("first", b.layer("conv1", nn.Conv2d(2, 21, 3), b.x), neuron_kinds.synaptic(21))
    n = b.neuron("second", b.layer("conv2", nn.Conv2d(21, 9, 2), n), kind(9))
    graph = lowered(b.output(b.mean(n) if readout == "mean" else n), x, target)
    assert emitted(graph, x).keys() == {"first"}
    output = run_steps(graph, x, NUM_STEPS).output
    assert len(set(output.flatten().tolist())) > 20
    check(graph, x, tmp_path / "a", target)


@pytest.mark.parametrize("target", TARGETS, ids=TARGET_NAMES)
def test_counts_through_pools_sums_and_vectors(tmp_path: Path, target: Target) -> None:
    x = torch.rand(12, 2, 6, 6)
    b = StepGraphBuilder((2, 6, 6))
    signed = b.neuron("signed", b.layer("conv1", nn.Conv2d(2, 16, 3, padding=1), b.x), neuron_kinds.ternary(16))
    branch = b.neuron("branch", b.layer("conv2", nn.Conv2d(16, 16, 3, padding=1), signed), neuron_kinds.ternary(16))
    total = b.function(operator.add, signed, branch)
    pooled = b.layer("pool", nn.MaxPool2d(2), total)
    counts = b.neuron("counts", b.layer("conv3", nn.Conv2d(16, 20, 3, padding=1), pooled), neuron_kinds.rounded(20))
    flat = b.layer("flatten", nn.Flatten(), b.layer("mean", nn.AvgPool2d(3), counts))
    vector = b.neuron("vector", b.layer("fc", nn.Linear(20, 17), flat), neuron_kinds.ternary(17))
    graph = lowered(b.output(b.mean(b.layer("fc2", nn.Linear(17, 5), vector))), x, target)
    assert set(emitted(graph, x)["branch"].flatten().tolist()) == {-1.0, 0.0, 1.0}
    assert "# -2..2" in format_graph(graph)
    check(graph, x, tmp_path / "a", target)


@pytest.mark.parametrize("target", TARGETS, ids=TARGET_NAMES)
def test_a_neuron_of_two_inputs(tmp_path: Path, target: Target) -> None:
    """The first current is computed once for all steps, the second at each step."""
    x = torch.rand(12, 2, 5, 4)
    b = StepGraphBuilder((2, 5, 4))
    once = b.layer("conv1", nn.Conv2d(2, 21, 3, padding=1), b.x)
    spikes = b.neuron("first", b.layer("conv2", nn.Conv2d(2, 21, 3, padding=1), b.x), neuron_kinds.synaptic(21))
    each = b.layer("conv3", nn.Conv2d(21, 21, 3, padding=1), spikes)
    n = b.neuron("second", once, neuron_kinds.two_inputs(21), (each,))
    graph = lowered(b.output(b.mean(n)), x, target)
    assert 0.01 < emitted(graph, x)["second"].mean() < 0.99
    check(graph, x, tmp_path / "a", target)


SPECIAL = [0.0, -0.0, 0.5, 1.5, -2.5, 1e-45, -1e-45, 3e38, -3e38, float("inf"), -float("inf"), float("nan"), 0.3, -7.7]


@pytest.mark.parametrize("target", TARGETS, ids=TARGET_NAMES)
def test_every_operation_on_special_and_on_random_values(tmp_path: Path, target: Target) -> None:
    first, second = torch.meshgrid(torch.tensor(SPECIAL), torch.tensor(SPECIAL), indexing="ij")
    x = torch.stack([torch.stack([first, torch.randn(14, 14)]), torch.stack([second, torch.randn(14, 14)])])[..., None]
    b = StepGraphBuilder((14, 14, 1), per_step=True)
    graph = b.output(b.neuron("n", b.x, neuron_kinds.every_operation()))
    graph.meta["num_steps"] = 2
    check(graph, x, tmp_path / "a", target)


def test_spikes_and_real_numbers_of_the_last_step(tmp_path: Path) -> None:
    x = torch.randn(3, 4, 9, 2, 2)
    for kind in (neuron_kinds.synaptic, neuron_kinds.membrane):
        b = StepGraphBuilder((9, 2, 2), per_step=True)
        n = b.neuron("layer", b.x, kind(9))
        graph = b.output(b.function(operator.mul, n, 1.0, region=Region.AFTER))
        graph.meta["num_steps"] = 3
        check(graph, x, tmp_path / kind.__name__, Native())


def test_the_largest_real_number_may_be_no_number(tmp_path: Path) -> None:
    x = torch.randn(3, 4, 9, 2, 2)
    x[0, 0, 0], x[1, 1, 1], x[2, 2, 2] = (float("nan"),) * 3
    b = StepGraphBuilder((9, 2, 2), per_step=True)
    n = b.neuron("layer", b.x, neuron_kinds.membrane(9))
    most = b.state("most", (9, 2, 2), -float("inf"))
    b.states.append((most, b.function(torch.maximum, most, n)))
    graph = b.output(b.function(operator.mul, b.states[-1][1], 1.0, region=Region.AFTER))
    graph.meta["num_steps"] = 3
    check(graph, x, tmp_path / "a", Native())


def test_several_states_and_constants_survive_a_file() -> None:
    for kind in (*SPIKING, *COUNTING, *REAL):
        b = StepGraphBuilder((6, 2, 2))
        graph = b.output(b.neuron("layer", b.x, kind(6)))
        after = from_dict(*to_dict(graph))
        assert format_graph(after) == format_graph(graph)
        assert after.get_submodule("layer").neuron == kind(6)


def test_states_are_named_after_their_layer() -> None:
    graph = lowered(chain(neuron_kinds.synaptic), torch.rand(4, 2, 5, 4), Native())
    program = plan(graph, 64, 4)
    names = [state["name"] for state in program.states]
    assert names[:4] == ["first_i", "first_v", "second_i", "second_v"]


def test_constants_are_stored_by_layer(tmp_path: Path) -> None:
    graph = lowered(chain(neuron_kinds.delayed_reset_per_channel), torch.rand(8, 2, 5, 4), Native())
    packed = {part["tensor"]: part["bytes"] for part in plan(graph, 64, 4).packed}
    assert {name: packed[name] for name in ("first.beta", "second.th", "third.th")} == {
        "first.beta": 84,
        "second.th": 96,
        "third.th": 48,
    }


def test_more_states_make_narrower_tiles() -> None:
    from spikenm_compile.lowering.planner import Planner

    b = StepGraphBuilder((6, 2, 2))
    planner = Planner(b.output(b.neuron("layer", b.x)), 64, 4)
    widths = [planner.width_for(kind(1)) for kind in (neuron_kinds.membrane, neuron_kinds.synaptic)]
    assert [planner.width_for(None), *widths, planner.width_for(neuron_kinds.five_states(1))] == [64, 64, 32, 8]


@pytest.mark.parametrize(
    "kind", [neuron_kinds.adaptive, neuron_kinds.delayed_reset_per_channel, neuron_kinds.five_states]
)
def test_nothing_is_contracted_to_one_rounding(tmp_path: Path, kind: Kind) -> None:
    graph = lowered(chain(kind), torch.rand(8, 2, 5, 4), Native())
    program = plan(graph, X86_64_V3.tile_width, 4)
    *_, assembly = build_objects(program, X86_64_V3.tvm_target, tmp_path)
    assert "mulps" in assembly
    assert "fmadd" not in assembly
    assert "fmsub" not in assembly
    assert "fnmadd" not in assembly


@pytest.mark.parametrize("target", [Native(), Onnx()], ids=["native", "onnx"])
def test_inexact_neurons_are_refused(tmp_path: Path, target: Target) -> None:
    neuron = Neuron(("v = v + exp(x) * sigmoid(v)", "s = v > 1"), {"v": 0.0})
    b = StepGraphBuilder((3, 4, 4))
    graph = b.output(b.neuron("eif", b.x, neuron))
    with pytest.raises(PassError, match=r"layer 'eif' computes exp, sigmoid, whose last bit differs between machines"):
        target.build(graph, tmp_path, name="x", num_steps=4)


def test_wrong_number_of_values_per_channel_is_refused(tmp_path: Path) -> None:
    b = StepGraphBuilder((3, 4, 4))
    graph = b.output(b.neuron("layer", b.x, neuron_kinds.rounded(3)))
    module = graph.get_submodule("layer")
    module.neuron = neuron_kinds.rounded(4)  # type: ignore[assignment]
    with pytest.raises(PassError, match="layer 'layer' has 4 values of 'th' and 3 channels"):
        Native().build(graph, tmp_path, name="x", num_steps=4)


def test_a_layer_cannot_read_real_numbers() -> None:
    b = StepGraphBuilder((3, 4, 4))
    n = b.neuron("membrane", b.layer("conv1", nn.Conv2d(3, 4, 3), b.x), neuron_kinds.membrane(4))
    graph = b.output(b.layer("conv2", nn.Conv2d(4, 4, 1), n))
    with pytest.raises(PassError, match="layer 'conv2' reads real values"):
        lowered(graph, torch.rand(4, 3, 4, 4), Native())


def test_levels_of_counts_reach_the_layer() -> None:
    graph = lowered(chain(neuron_kinds.many_spikes), torch.rand(4, 2, 5, 4), Native())
    assert [m.levels for n, m in graph.named_modules() if n in ("conv2", "conv3")] == [Levels(0, 5)] * 2
    assert [m.kernel for n, m in graph.named_modules() if n == "conv2"] == ["event-rows"]
