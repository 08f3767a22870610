"""Native code against the lowered graph, bit for bit: outputs, spikes, states, whole sequence and step by step."""

from __future__ import annotations

import operator
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small_networks import FORMS, SHAPES, fires, lower_graph, read_out
from step_graphs import LIF, StepGraphBuilder, randomize
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from spikenm_compile.errors import PassError
from spikenm_compile.neurons import Neuron, integrate_and_fire
from spikenm_compile.package import write_package
from spikenm_compile.passes.base import run_pipeline
from spikenm_compile.passes.pipelines import lowering
from spikenm_compile.passes.quantize_inputs import choose_levels
from spikenm_compile.pattern import Pattern
from spikenm_compile.targets.cpu import CPUS, X86_64_V2, X86_64_V3, Cpu, cpu_flags, detect
from spikenm_compile.targets.native import Native
from spikenm_compile.verification import verify


def check(graph: GraphModule, x: Tensor, out: Path, cpu: Cpu | None = None) -> None:
    write_package(graph, Native(cpu=cpu), out, name="test", pattern=Pattern(2, 4), samples=x)
    for result in verify(out, {"given": x}):
        assert result.passed, result
        assert result.compared > 0


def runnable(*cpus: Cpu) -> list[Cpu]:
    return [cpu for cpu in cpus if cpu.machine == detect().machine and cpu_flags().issuperset(cpu.features)]


@pytest.mark.parametrize("cpu", runnable(*CPUS), ids=lambda cpu: cpu.name)
@pytest.mark.parametrize(
    ("channels", "size", "num_steps"), [((1, 17, 65), 9, 3), ((3, 64, 100), 5, 1), ((2, 8, 129), 6, 7)]
)
def test_convolution_chain(tmp_path: Path, cpu: Cpu, channels: tuple[int, int, int], size: int, num_steps: int) -> None:
    first, second, third = channels
    b = StepGraphBuilder((first, size, size))
    n = b.layer("conv1", nn.Conv2d(first, second, 3, padding=1), b.x)
    s = b.neuron("lif1", b.layer("bn1", nn.BatchNorm2d(second), n))
    s = b.neuron("lif2", b.layer("conv2", nn.Conv2d(second, third, (3, 2), stride=2, padding=1), s))
    s = b.neuron("lif3", b.layer("conv3", nn.Conv2d(third, 40, 1), s), integrate_and_fire(v_threshold=0.4))
    flat = b.layer("flatten", nn.Flatten(), b.layer("pool", nn.MaxPool2d(2, padding=1), s))
    x = torch.rand(5, first, size, size)
    graph = lower_graph(
        b.output(b.mean(b.layer("fc", nn.Linear(flat.meta["shape"][0], 10), flat))), x, num_steps=num_steps
    )
    assert all(0.003 < rate < 0.95 for rate in fires(graph, x).values())
    check(graph, x, tmp_path / "a", cpu)


@pytest.mark.parametrize("cpu", runnable(detect(), X86_64_V2), ids=lambda cpu: cpu.name)
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_every_neuron_form_fused_and_alone(tmp_path: Path, form: Neuron, cpu: Cpu) -> None:
    b = StepGraphBuilder((2, 4, 4))
    s = b.neuron("alone", b.layer("conv1", nn.Conv2d(2, 21, 3), b.x), form)
    s = b.neuron("fused", b.layer("conv2", nn.Conv2d(21, 24, 2), s), form)
    x = torch.randn(40, 2, 4, 4)
    check(lower_graph(b.output(s), x, num_steps=6), x, tmp_path / "a", cpu)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("per_step", [False, True], ids=["static", "per_step"])
def test_network_shapes(tmp_path: Path, shape: Callable[[StepGraphBuilder, Node], Node], per_step: bool) -> None:
    b = StepGraphBuilder((3, 7, 7), per_step=per_step)
    s = b.neuron("lif1", b.layer("conv1", nn.Conv2d(3, 12, 3, padding=1), b.x))
    n = b.layer("fc", nn.LazyLinear(11), b.layer("flatten", nn.Flatten(), shape(b, s)))
    x = torch.randn(5, 9, 3, 7, 7) if per_step else torch.randn(9, 3, 7, 7)
    check(lower_graph(b.output(b.mean(n)), x), x, tmp_path / "a")


def test_layers_of_vectors_and_other_readouts(tmp_path: Path) -> None:
    for readout in ("sum", "last", "max", "sequence"):
        b = StepGraphBuilder((30,))
        s = b.neuron("lif1", b.layer("fc1", nn.Linear(30, 70), b.x))
        s = b.neuron("lif2", b.layer("fc2", nn.Linear(70, 33), s), integrate_and_fire())
        n = b.layer("fc3", nn.Linear(33, 5), s)
        x = torch.rand(6, 30)
        check(lower_graph(b.output(read_out(b, n, readout)), x), x, tmp_path / readout)


@pytest.mark.parametrize("pattern", ["1:4", "2:8", "3:7", "1:16", "5:12"])
def test_patterns_are_unpacked_by_the_code(tmp_path: Path, pattern: str) -> None:
    m = Pattern.parse(pattern).m
    b = StepGraphBuilder((2, 4, 4))
    s = b.neuron("lif1", b.layer("conv1", nn.Conv2d(2, 2 * m, 3, padding=1), b.x))
    s = b.neuron("lif2", b.layer("conv2", nn.Conv2d(2 * m, 3 * m, 3, padding=1), s))
    n = b.layer("fc", nn.Linear(3 * m * 16, 7), b.layer("flatten", nn.Flatten(), s))
    x = torch.rand(4, 2, 4, 4)
    graph = lower_graph(b.output(b.mean(n)), x, pattern)
    stored = [m.pattern for m in graph.modules() if hasattr(m, "stored_weight")]
    assert stored == [None, Pattern.parse(pattern), Pattern.parse(pattern)]
    check(graph, x, tmp_path / "a")


def test_the_sum_needs_32_bits_where_int16_could_overflow(tmp_path: Path) -> None:
    b = StepGraphBuilder((2, 4, 4))
    s = b.neuron("lif1", b.layer("conv1", nn.Conv2d(2, 64, 3, padding=1), b.x), integrate_and_fire(v_threshold=0.1))
    conv = nn.Conv2d(64, 16, 3, padding=1)
    s = b.neuron("lif2", b.layer("conv2", conv, s), integrate_and_fire(v_threshold=200.0))
    graph = b.output(s)
    randomize(graph, 0)
    with torch.no_grad():
        conv.weight.fill_(1.0)  # 576 weights of 127
    graph.meta["num_steps"] = 4
    x = torch.rand(4, 2, 4, 4) + 0.5
    graph = run_pipeline(lowering(choose_levels(x), Pattern(2, 4), Native().families), graph)
    assert fires(graph, x)["lif2"] > 0.01
    check(graph, x, tmp_path / "a")


def test_not_a_number_and_infinities_in_the_input(tmp_path: Path) -> None:
    b = StepGraphBuilder((3, 4, 4))
    s = b.neuron("lif1", b.layer("conv1", nn.Conv2d(3, 8, 3, padding=1), b.x), LIF)
    graph = lower_graph(b.output(s), torch.randn(4, 3, 4, 4))
    x = torch.randn(4, 3, 4, 4)
    x[0, 0, 0, 0], x[1, 1, 1, 1], x[2, 2, 2, 2] = float("nan"), float("inf"), -float("inf")
    check(graph, x, tmp_path / "a")


def test_a_layer_without_native_kernel_is_named() -> None:
    b = StepGraphBuilder((3, 8, 8))
    s = b.neuron("lif1", b.layer("conv1", nn.Conv2d(3, 8, 3, padding=1), b.x))
    n = b.layer("gelu", nn.GELU(), s)
    graph = lower_graph(b.output(b.neuron("lif2", n)), torch.randn(4, 3, 8, 8))
    with pytest.raises(PassError, match=r"layer 'gelu' \(GELU\) has no native kernel"):
        Native().build(graph, Path(), name="x", num_steps=4)


def test_a_function_without_native_kernel_is_named() -> None:
    b = StepGraphBuilder((3, 8, 8))
    current = b.layer("conv1", nn.Conv2d(3, 8, 3, padding=1), b.x)
    graph = lower_graph(b.output(b.neuron("lif1", b.function(operator.add, current, current))), torch.randn(4, 3, 8, 8))
    graph.graph.find_nodes(op="call_function", target=operator.add)[0].target = operator.pow
    with pytest.raises(PassError, match=r"'add' \(.*pow.*\) has no native kernel; add, sub, mul, div, maximum have"):
        Native().build(graph, Path(), name="x", num_steps=4)


def test_an_average_pool_in_front_of_a_neuron_is_refused() -> None:
    b = StepGraphBuilder((3, 8, 8))
    s = b.neuron("lif1", b.layer("conv1", nn.Conv2d(3, 8, 3, padding=1), b.x))
    n = b.layer("pool", nn.AvgPool2d(2), s)
    graph = lower_graph(b.output(b.neuron("lif2", n)), torch.randn(4, 3, 8, 8))
    with pytest.raises(PassError, match=r"layer 'pool' \(AvgPool2d\) averages real values"):
        Native().build(graph, Path(), name="x", num_steps=4)


def test_a_join_that_broadcasts_is_refused() -> None:
    b = StepGraphBuilder((3, 8, 8))
    s = b.neuron("lif1", b.layer("conv1", nn.Conv2d(3, 8, 3, padding=1), b.x))
    gate = b.function(operator.mul, s, b.layer("pool", nn.MaxPool2d(8), s))
    graph = lower_graph(b.output(b.neuron("lif2", gate)), torch.randn(4, 3, 8, 8))
    with pytest.raises(PassError, match=r"'mul' joins '.*' \[8, 8, 8\] and 'pool' \[8, 1, 1\]; native kernels join"):
        Native().build(graph, Path(), name="x", num_steps=4)


def test_ceil_mode_is_refused() -> None:
    b = StepGraphBuilder((3, 7, 7))
    s = b.neuron("lif1", b.layer("conv1", nn.Conv2d(3, 8, 3, padding=1), b.x))
    graph = lower_graph(b.output(b.layer("pool", nn.MaxPool2d(2, ceil_mode=True), s)), torch.randn(4, 3, 7, 7))
    with pytest.raises(PassError, match="ceil_mode"):
        Native().build(graph, Path(), name="x", num_steps=4)


def test_the_current_is_not_contracted_to_one_rounding(tmp_path: Path) -> None:
    """TVM lets LLVM fuse a·b + c; a machine with FMA would then give another last bit."""
    from spikenm_compile.lowering.entry import build_objects
    from spikenm_compile.lowering.native import plan

    b = StepGraphBuilder((3, 4, 4))
    s = b.neuron("lif1", b.layer("conv1", nn.Conv2d(3, 8, 3, padding=1), b.x), FORMS[3])
    graph = lower_graph(
        b.output(b.neuron("lif2", b.layer("conv2", nn.Conv2d(8, 8, 3), s), FORMS[4])), torch.rand(4, 3, 4, 4)
    )
    program = plan(graph, X86_64_V3.tile_width, 4)
    *_, assembly = build_objects(program, X86_64_V3.tvm_target, tmp_path)
    assert "mulps" in assembly
    assert "fmadd" not in assembly
    assert "fmsub" not in assembly


def test_a_state_read_inside_of_a_step_is_refused() -> None:
    b = StepGraphBuilder((3, 4, 4))
    s = b.neuron("lif1", b.layer("conv1", nn.Conv2d(3, 8, 3, padding=1), b.x))
    total = b.state("total", s.meta["shape"])
    after = b.function(operator.add, total, s)
    b.states.append((total, after))
    graph = lower_graph(b.output(b.neuron("lif2", after)), torch.rand(4, 3, 4, 4))
    with pytest.raises(PassError, match="uses the state 'add' inside of a step"):
        Native().build(graph, Path(), name="x", num_steps=4)
