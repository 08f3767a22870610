"""Native code against the lowered graph, bit for bit: outputs, spikes, states, whole sequence and step by step."""

from __future__ import annotations

import operator
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from step_graphs import LIF, StepGraphBuilder, randomize
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from spikenm_compile.errors import PassError
from spikenm_compile.graph import Region
from spikenm_compile.neurons import Neuron, integrate_and_fire, leaky, parametric_leaky
from spikenm_compile.package import write_package
from spikenm_compile.passes.base import run_pipeline
from spikenm_compile.passes.pipelines import lowering
from spikenm_compile.passes.quantize_inputs import choose_levels
from spikenm_compile.pattern import Pattern
from spikenm_compile.targets.cpu import CPUS, X86_64_V2, X86_64_V3, Cpu, cpu_flags, detect
from spikenm_compile.targets.native import Native
from spikenm_compile.verification import verify


def lower_graph(graph: GraphModule, x: Tensor, pattern: str = "2:4", num_steps: int = 4, seed: int = 0) -> GraphModule:
    randomize(graph, seed)
    project(graph, Pattern.parse(pattern))
    graph.meta["num_steps"] = num_steps
    return run_pipeline(lowering(choose_levels(x), Pattern.parse(pattern), Native().families), graph)


def project(graph: GraphModule, pattern: Pattern) -> None:
    for module in graph.modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and pattern.divides(module.weight.shape[1]):
            with torch.no_grad():
                module.weight.copy_(pattern.project(module.weight))


def check(graph: GraphModule, x: Tensor, out: Path, cpu: Cpu | None = None) -> None:
    write_package(graph, Native(cpu=cpu), out, name="test", pattern=Pattern(2, 4), samples=x)
    for result in verify(out, {"given": x}):
        assert result.passed, result
        assert result.compared > 0


def fires(graph: GraphModule, x: Tensor) -> dict[str, float]:
    from spikenm_compile.graph import run_steps

    with torch.no_grad():
        spikes = run_steps(graph, x, graph.meta["num_steps"]).spikes
    return {layer: float(s.mean()) for layer, s in spikes.items()}


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


FORMS = [
    integrate_and_fire(v_threshold=0.8, v_reset=None),
    leaky(1.7, v_threshold=0.6, v_reset=-0.1),
    leaky(3.3, decay_input=False, v_threshold=1.0, v_reset=None, fire=">"),
    parametric_leaky(0.37, v_threshold=0.5, v_reset=0.0),
    parametric_leaky(0.61, decay_input=False, v_threshold=1.1, v_reset=0.25),
]


@pytest.mark.parametrize("cpu", runnable(detect(), X86_64_V2), ids=lambda cpu: cpu.name)
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_every_neuron_form_fused_and_alone(tmp_path: Path, form: Neuron, cpu: Cpu) -> None:
    b = StepGraphBuilder((2, 4, 4))
    s = b.neuron("alone", b.layer("conv1", nn.Conv2d(2, 21, 3), b.x), form)
    s = b.neuron("fused", b.layer("conv2", nn.Conv2d(21, 24, 2), s), form)
    x = torch.randn(40, 2, 4, 4)
    check(lower_graph(b.output(s), x, num_steps=6), x, tmp_path / "a", cpu)


def residual_of_spikes(b: StepGraphBuilder, s: Node) -> Node:
    branch = b.neuron("lif2", b.layer("conv2", nn.Conv2d(12, 12, 3, padding=1), s))
    total = b.function(operator.add, branch, s)
    total = b.function(operator.add, total, branch)
    return b.neuron("lif3", b.layer("conv3", nn.Conv2d(12, 20, 3, padding=1, stride=2), total))


def residual_of_currents(b: StepGraphBuilder, s: Node) -> Node:
    left = b.layer("conv2", nn.Conv2d(12, 20, 3, padding=1, stride=2), s)
    right = b.layer("down", nn.Conv2d(12, 20, 1, stride=2), s)
    return b.neuron("lif3", b.function(operator.add, left, right))


def residual_of_current_and_spikes(b: StepGraphBuilder, s: Node) -> Node:
    left = b.layer("conv2", nn.Conv2d(12, 12, 3, padding=1), s)
    return b.neuron("lif3", b.function(operator.add, left, s))


def pool_of_currents(b: StepGraphBuilder, s: Node) -> Node:
    left = b.layer("conv2", nn.Conv2d(12, 20, 3, padding=1), s)
    return b.neuron("lif3", b.layer("pool", nn.MaxPool2d(3, 2, 1), left))


def pool_between(b: StepGraphBuilder, s: Node) -> Node:
    pooled = b.layer("pool", nn.MaxPool2d(3, 2, 1), s)
    return b.neuron("lif3", b.layer("conv2", nn.Conv2d(12, 20, 5, padding=2), pooled))


def average_pools(b: StepGraphBuilder, s: Node) -> Node:
    pooled = b.layer("pool", nn.AvgPool2d(3, 2, 1), s)
    s = b.neuron("lif2", b.layer("conv2", nn.Conv2d(12, 20, 3, padding=1), pooled))
    return b.layer("last_pool", nn.AdaptiveAvgPool2d(1), b.layer("pool2", nn.AvgPool2d(2), s))


def grouped_and_dilated(b: StepGraphBuilder, s: Node) -> Node:
    s = b.neuron("lif2", b.layer("depthwise", nn.Conv2d(12, 12, 3, padding=1, groups=12), s))
    s = b.neuron("lif3", b.layer("grouped", nn.Conv2d(12, 20, 3, padding=1, groups=4), s))
    return b.neuron("lif4", b.layer("dilated", nn.Conv2d(20, 9, 3, padding=2, dilation=2), s))


def neuron_behind_neuron(b: StepGraphBuilder, s: Node) -> Node:
    return b.neuron("lif3", s, leaky(2.5, decay_input=False, v_threshold=0.9))


def spikes_of_one_and_not_of_another(b: StepGraphBuilder, s: Node) -> Node:
    branch = b.neuron("lif2", b.layer("conv2", nn.Conv2d(12, 12, 3, padding=1), s))
    both = b.function(operator.mul, branch, s)
    one = b.function(operator.mul, s, b.function(operator.sub, 1.0, branch))
    s = b.neuron("lif3", b.layer("conv3", nn.Conv2d(12, 12, 3, padding=1), both))
    s = b.neuron("lif4", b.function(operator.add, s, b.layer("conv4", nn.Conv2d(12, 12, 5, padding=2), one)))
    return b.layer("pool", nn.MaxPool2d(3, 2, 1), b.function(operator.mul, b.function(operator.mul, s, s), one))


def silence_and_difference(b: StepGraphBuilder, s: Node) -> Node:
    other = b.neuron("lif2", b.layer("conv2", nn.Conv2d(12, 12, 3, padding=1), s))
    silent = b.function(operator.sub, 1.0, other)
    difference = b.function(operator.sub, s, b.function(operator.add, other, silent))
    left = b.neuron("lif3", b.layer("conv3", nn.Conv2d(12, 80, 3, padding=1), silent))
    right = b.neuron("lif4", b.layer("conv4", nn.Conv2d(12, 80, 3, padding=1), difference))
    wide = b.function(operator.mul, left, b.function(operator.sub, 1.0, right))
    return b.neuron("lif5", b.layer("conv5", nn.Conv2d(80, 9, 3, padding=1), wide))


def sign_squared(b: StepGraphBuilder, s: Node) -> Node:
    """A product of whole numbers that is spikes although its factors are not."""
    other = b.neuron("lif2", b.layer("conv2", nn.Conv2d(12, 12, 3, padding=1), s))
    silent = b.function(operator.sub, b.function(operator.mul, s, other), s)
    return b.neuron("lif3", b.layer("conv3", nn.Conv2d(12, 9, 3, padding=1), b.function(operator.mul, silent, silent)))


SHAPES = (
    residual_of_spikes,
    spikes_of_one_and_not_of_another,
    silence_and_difference,
    sign_squared,
    residual_of_currents,
    residual_of_current_and_spikes,
    pool_of_currents,
    pool_between,
    average_pools,
    grouped_and_dilated,
    neuron_behind_neuron,
)


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


def read_out(b: StepGraphBuilder, node: Node, kind: str) -> Node:
    if kind == "sequence":
        return node
    if kind == "last":
        return b.function(operator.mul, node, 1.0, region=Region.AFTER)
    total = b.state("total", node.meta["shape"], -float("inf") if kind == "max" else 0.0)
    after = b.function(operator.add if kind == "sum" else torch.maximum, total, node)
    b.states.append((total, after))
    return b.function(operator.mul, after, 1.0, region=Region.AFTER)


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
