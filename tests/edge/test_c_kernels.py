"""Portable C against the lowered graph, bit for bit, with a strict compiler and sanitizers."""

from __future__ import annotations

import operator
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import neuron_kinds
import pytest
import torch
from c_networks import STRICT, CNetwork
from neuron_kinds import COUNTING, REAL, SPIKING, Kind
from small_networks import FORMS, SHAPES, fires, lower_graph, read_out
from step_graphs import StepGraphBuilder
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from spikenm_compile.errors import PassError
from spikenm_compile.graph import Region
from spikenm_compile.lowering.c.plan import plan_c
from spikenm_compile.lowering.c.weights import Rows
from spikenm_compile.neurons import Neuron, integrate_and_fire
from spikenm_compile.ops import IntConv2d, NeuronStep

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")


@pytest.mark.parametrize("shape", SHAPES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("per_step", [False, True], ids=["static", "per_step"])
def test_network_shapes(tmp_path: Path, shape: Callable[[StepGraphBuilder, Node], Node], per_step: bool) -> None:
    b = StepGraphBuilder((3, 7, 7), per_step=per_step)
    s = b.neuron("lif1", b.layer("conv1", nn.Conv2d(3, 12, 3, padding=1), b.x))
    n = b.layer("fc", nn.LazyLinear(11), b.layer("flatten", nn.Flatten(), shape(b, s)))
    x = torch.randn(4, 9, 3, 7, 7) if per_step else torch.randn(9, 3, 7, 7)
    CNetwork.write(lower_graph(b.output(b.mean(n)), x), tmp_path).check(x)


def chain() -> tuple[GraphModule, Tensor]:
    """Awkward numbers of channels, a kernel that is not square, stride, padding, a pool, batch norm."""
    b = StepGraphBuilder((3, 6, 6))
    n = b.layer("conv1", nn.Conv2d(3, 64, 3, padding=1), b.x)
    s = b.neuron("lif1", b.layer("bn1", nn.BatchNorm2d(64), n))
    s = b.neuron("lif2", b.layer("conv2", nn.Conv2d(64, 100, (3, 2), stride=2, padding=1), s))
    s = b.neuron("lif3", b.layer("conv3", nn.Conv2d(100, 41, 1), s), integrate_and_fire(v_threshold=0.4))
    flat = b.layer("flatten", nn.Flatten(), b.layer("pool", nn.MaxPool2d(2, padding=1), s))
    x = torch.rand(5, 3, 6, 6)
    graph = lower_graph(b.output(b.mean(b.layer("fc", nn.Linear(flat.meta["shape"][0], 10), flat))), x)
    assert all(0.003 < rate < 0.95 for rate in fires(graph, x).values())
    return graph, x


@pytest.mark.parametrize("rows", ["dense", "sparse"])
@pytest.mark.parametrize("keep_spikes", [False, True], ids=["reuse", "keep"])
def test_rows_in_both_forms_and_memory_with_and_without_reuse(tmp_path: Path, rows: Rows, keep_spikes: bool) -> None:
    graph, x = chain()
    network = CNetwork.write(graph, tmp_path, rows=rows, keep_spikes=keep_spikes)
    program = network.program
    assert ("add_sparse_row" in program.used) == (rows == "sparse")
    if not keep_spikes:
        program.spikes[:] = program.spikes[-1:]
        (tmp_path / "network.h").write_text(network.header())
    network.check(x)


def test_a_layer_with_more_weights_than_16_bits_count(tmp_path: Path) -> None:
    b = StepGraphBuilder((300,))
    s = b.neuron("lif1", b.layer("fc1", nn.Linear(300, 300), b.x))
    x = torch.rand(3, 300)
    graph = lower_graph(b.output(b.mean(b.layer("fc2", nn.Linear(300, 300), s))), x)
    network = CNetwork.write(graph, tmp_path, rows="sparse")
    assert "add_long_sparse_row" not in network.program.used
    for module in graph.modules():
        if isinstance(module, IntConv2d):
            module.weight = torch.randint(1, 20, module.weight.shape, dtype=torch.int8)
    network = CNetwork.write(graph, tmp_path, rows="sparse")
    assert "add_long_sparse_row" in network.program.used
    network.check(x)


@pytest.mark.parametrize("flags", [("-O0",), ("-O3",), ("-O3", "-march=native", "-std=gnu99")], ids=" ".join)
def test_every_optimisation_gives_the_same(tmp_path: Path, flags: tuple[str, ...]) -> None:
    graph, x = chain()
    CNetwork.write(graph, tmp_path).check(x, flags=flags)


@pytest.mark.parametrize("compiler", [("gcc", "-std=gnu17"), ("clang",)], ids=["gcc", "clang"])
def test_no_rounding_is_left_out_where_the_machine_could(tmp_path: Path, compiler: tuple[str, ...]) -> None:
    """GNU mode contracts a * b + c by default, and ignores the pragma of C99."""
    if shutil.which(compiler[0]) is None:
        pytest.skip(f"{compiler[0]} is not installed")
    CNetwork.write(chain()[0], tmp_path)
    command = [*compiler, "-O3", "-mfma", "-mavx2", "-S", "-o", "-", str(tmp_path / "kernels.c")]
    assembly = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "mulps" in assembly or "mulss" in assembly
    assert "fmadd" not in assembly
    assert "fnmadd" not in assembly


def test_fast_math_is_refused_by_the_code(tmp_path: Path) -> None:
    CNetwork.write(chain()[0], tmp_path)
    command = ["gcc", *STRICT, "-ffast-math", "-c", str(tmp_path / "kernels.c"), "-o", str(tmp_path / "kernels.o")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "must be compiled without -ffast-math" in done.stderr


def test_all_forms_of_neurons_share_functions(tmp_path: Path) -> None:
    b = StepGraphBuilder((2, 8, 8))
    s = b.neuron("n0", b.layer("conv0", nn.Conv2d(2, 21, 3, padding=1), b.x), FORMS[0])
    for index, form in enumerate([*FORMS[1:], FORMS[0]], start=1):
        s = b.neuron(f"n{index}", b.layer(f"conv{index}", nn.Conv2d(21, 21, 3, padding=1), s), form)
    x = torch.randn(12, 2, 8, 8)
    network = CNetwork.write(lower_graph(b.output(s), x, num_steps=6), tmp_path)
    assert len(network.program.functions) == len(FORMS)
    network.check(x)


def neurons_of(kind: Kind) -> GraphModule:
    b = StepGraphBuilder((2, 5, 4))
    n = b.neuron("first", b.layer("conv1", nn.Conv2d(2, 21, 3, padding=1), b.x), kind(21))
    n = b.neuron("second", b.layer("conv2", nn.Conv2d(21, 24, 2), n), kind(24))
    n = b.neuron("third", b.layer("conv3", nn.Conv2d(24, 12, 3, groups=4), n), kind(12))
    return b.output(b.mean(b.layer("fc", nn.Linear(24, 5), b.layer("flatten", nn.Flatten(), n))))


@pytest.mark.parametrize("kind", [*SPIKING, *COUNTING], ids=lambda kind: kind.__name__)
def test_neurons_of_every_kind(tmp_path: Path, kind: Kind) -> None:
    x = torch.rand(20, 2, 5, 4)
    graph = lower_graph(neurons_of(kind), x, num_steps=6)
    assert all(abs(rate) > 0 for rate in fires(graph, x).values())
    CNetwork.write(graph, tmp_path).check(x, flags=("-O1",))


@pytest.mark.parametrize("kind", [*REAL], ids=lambda kind: kind.__name__)
def test_real_numbers_are_read_out(tmp_path: Path, kind: Kind) -> None:
    x = torch.rand(12, 2, 5, 4)
    b = StepGraphBuilder((2, 5, 4))
    n = b.neuron("first", b.layer("conv1", nn.Conv2d(2, 21, 3), b.x), neuron_kinds.synaptic(21))
    n = b.neuron("second", b.layer("conv2", nn.Conv2d(21, 9, 2), n), kind(9))
    CNetwork.write(lower_graph(b.output(n), x), tmp_path).check(x, flags=("-O1",))


SPECIAL = [0.0, -0.0, 0.5, 1.5, -2.5, 1e-45, -1e-45, 3e38, -3e38, float("inf"), -float("inf"), float("nan"), 0.3, -7.7]


def test_every_operation_on_special_and_on_random_values(tmp_path: Path) -> None:
    first, second = torch.meshgrid(torch.tensor(SPECIAL), torch.tensor(SPECIAL), indexing="ij")
    x = torch.stack([torch.stack([first, torch.randn(14, 14)]), torch.stack([second, torch.randn(14, 14)])])[..., None]
    b = StepGraphBuilder((14, 14, 1), per_step=True)
    graph = b.output(b.neuron("n", b.x, neuron_kinds.every_operation()))
    graph.meta["num_steps"] = 2
    CNetwork.write(graph, tmp_path).check(x)


def test_not_a_number_and_infinities_in_the_input(tmp_path: Path) -> None:
    b = StepGraphBuilder((3, 4, 4))
    s = b.neuron("lif1", b.layer("conv1", nn.Conv2d(3, 8, 3, padding=1), b.x))
    graph = lower_graph(b.output(s), torch.randn(4, 3, 4, 4))
    x = torch.randn(4, 3, 4, 4)
    x[0, 0, 0, 0], x[1, 1, 1, 1], x[2, 2, 2, 2] = float("nan"), float("inf"), -float("inf")
    CNetwork.write(graph, tmp_path).check(x)


@pytest.mark.parametrize("readout", ["sum", "last", "max", "sequence"])
def test_layers_of_vectors_and_other_readouts(tmp_path: Path, readout: str) -> None:
    b = StepGraphBuilder((30,))
    s = b.neuron("lif1", b.layer("fc1", nn.Linear(30, 70), b.x))
    s = b.neuron("lif2", b.layer("fc2", nn.Linear(70, 33), s), integrate_and_fire())
    x = torch.rand(6, 30)
    graph = lower_graph(b.output(read_out(b, b.layer("fc3", nn.Linear(33, 5), s), readout)), x)
    CNetwork.write(graph, tmp_path).check(x, flags=("-O1",))


def test_names_of_layers_that_c_does_not_take(tmp_path: Path) -> None:
    b = StepGraphBuilder((3, 4, 4))
    neuron = Neuron(
        ("layer = v + x", "float_of = layer >= c", "v = where(float_of, 0, layer)"), {"v": 0.0}, {"c": 0.9}, "float_of"
    )
    s = b.neuron("int", b.layer("convolve", nn.Conv2d(3, 8, 3, padding=1), b.x), neuron)
    s = b.neuron("state", b.layer("2nd", nn.Conv2d(8, 8, 3, padding=1), s), neuron)
    x = torch.rand(4, 3, 4, 4)
    graph = lower_graph(b.output(s), x)
    renamed = next(m for m in graph.modules() if isinstance(m, NeuronStep) and m.layer == "state")
    renamed.layer = "a*/ comment\\"
    CNetwork.write(graph, tmp_path).check(x, flags=("-O1",))


def refused() -> list[tuple[str, Callable[[StepGraphBuilder, Node], Node]]]:
    """(error, what a network does behind its first layer of spikes)."""
    return [
        (r"layer 'gelu' \(GELU\) has no C kernel", lambda b, s: b.neuron("n", b.layer("gelu", nn.GELU(), s))),
        (r"AvgPool2d\) averages real values", lambda b, s: b.neuron("n", b.layer("pool", nn.AvgPool2d(2), s))),
        ("ceil_mode", lambda b, s: b.layer("pool", nn.MaxPool2d(2, ceil_mode=True), s)),
        ("'sigmoid'|sigmoid", lambda b, s: b.neuron("n", s, Neuron(("v = v + sigmoid(x)", "s = v > 1"), {"v": 0.0}))),
        ("one for each channel is supported", lambda b, s: b.neuron("n", s, neuron_kinds.delayed_reset_per_channel(5))),
    ]


@pytest.mark.parametrize(("error", "rest"), refused(), ids=[error for error, _ in refused()])
def test_what_c_does_not_take_is_named(error: str, rest: Callable[[StepGraphBuilder, Node], Node]) -> None:
    b = StepGraphBuilder((3, 7, 7))
    s = b.neuron("lif1", b.layer("conv1", nn.Conv2d(3, 8, 3, padding=1), b.x))
    graph = lower_graph(b.output(rest(b, s)), torch.randn(4, 3, 7, 7))
    with pytest.raises(PassError, match=error):
        plan_c(graph, "x_")


def test_a_state_read_inside_of_a_step_is_refused() -> None:
    b = StepGraphBuilder((3, 4, 4))
    s = b.neuron("lif1", b.layer("conv1", nn.Conv2d(3, 8, 3, padding=1), b.x))
    total = b.state("total", s.meta["shape"])
    after = b.function(operator.add, total, s)
    b.states.append((total, after))
    graph = lower_graph(b.output(b.neuron("lif2", after)), torch.rand(4, 3, 4, 4))
    with pytest.raises(PassError, match="uses the state 'add' inside of a step"):
        plan_c(graph, "x_")


def test_the_number_of_steps_is_known_after_the_last() -> None:
    b = StepGraphBuilder((3, 4, 4))
    s = b.neuron("lif1", b.layer("conv1", nn.Conv2d(3, 8, 3, padding=1), b.x))
    n = b.function(operator.truediv, b.layer("conv2", nn.Conv2d(8, 8, 3), s), b.num_steps)
    graph = lower_graph(b.output(b.neuron("lif2", n)), torch.rand(4, 3, 4, 4))
    with pytest.raises(PassError, match="'truediv' uses the number of steps inside of a step"):
        plan_c(graph, "x_")


def test_a_current_of_the_last_step_is_read_out(tmp_path: Path) -> None:
    b = StepGraphBuilder((3, 4, 4))
    s = b.neuron("lif1", b.layer("conv1", nn.Conv2d(3, 8, 3, padding=1), b.x))
    n = b.layer("conv2", nn.Conv2d(8, 5, 3), s)
    x = torch.rand(4, 3, 4, 4)
    graph = lower_graph(b.output(b.function(operator.add, n, 0.5, region=Region.AFTER)), x)
    CNetwork.write(graph, tmp_path).check(x, flags=("-O1",))
