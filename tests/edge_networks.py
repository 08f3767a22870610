"""Lowered networks that are built for the edge in tests, with samples: (lowered graph, [B, ...] or [T, B, ...])."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import cache, partial

import torch
from recurrent_networks import RECURRENT, RECURRENT_MODELS, counts, lower_recurrent
from small_networks import SHAPES, lower_graph, project
from step_graphs import StepGraphBuilder, randomize
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from spikenm_compile.compiler import lower
from spikenm_compile.network import carried_network
from spikenm_compile.neurons import integrate_and_fire, leaky
from spikenm_compile.passes.base import run_pipeline
from spikenm_compile.passes.pipelines import lowering
from spikenm_compile.passes.quantize_inputs import choose_levels
from spikenm_compile.passes.select_kernels import DENSE_ROWS, EVENT_ROWS, LOOKUP_TABLES, SHARED_ROWS, STAGGERED_ROWS
from spikenm_compile.pattern import Pattern

Lowered = tuple[GraphModule, Tensor]
PATTERN = Pattern(2, 4)


def lowered_graph(graph: GraphModule, x: Tensor, num_steps: int, *, is_deep: bool = False) -> GraphModule:
    """Random weights at 2:4; those of a deep network have mean zero, so that its last layers do not spike always."""
    randomize(graph, 0)
    for module in graph.modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and PATTERN.divides(module.weight.shape[1]):
            with torch.no_grad():
                module.weight.copy_(PATTERN.project(module.weight - is_deep * 0.9 * module.weight.mean()))
    graph.meta["num_steps"] = num_steps
    return run_pipeline(lowering(choose_levels(x), PATTERN, (EVENT_ROWS, DENSE_ROWS)), graph)


@cache
def digits() -> Lowered:
    """The carried network: one image for all steps."""
    network = carried_network()
    return lower(network.model, network.example_inputs), network.example_inputs


@cache
def gestures() -> Lowered:
    """Counts of events at each step, ragged channels, every kind of pool, a residual of spikes; T = 5."""
    b = StepGraphBuilder((2, 9, 9), per_step=True)
    s = b.neuron("lif1", b.layer("conv1", nn.Conv2d(2, 12, 3, padding=1), b.x))
    branch = b.neuron("lif2", b.layer("conv2", nn.Conv2d(12, 12, 3, padding=1), s))
    total = b.function(operator.add, branch, s)
    s = b.neuron("lif3", b.layer("conv3", nn.Conv2d(12, 72, 3, padding=1, stride=2), total))
    s = b.neuron("lif4", b.layer("conv4", nn.Conv2d(72, 20, 3), b.layer("pool", nn.MaxPool2d(2, 1, 1), s)))
    n = b.layer("fc", nn.LazyLinear(11), b.layer("flatten", nn.Flatten(), s))
    x = torch.poisson(torch.full((5, 6, 2, 9, 9), 0.4), generator=torch.Generator().manual_seed(0))
    return lowered_graph(b.output(b.mean(n)), x, 5), x


@cache
def every_step() -> Lowered:
    """Input and output at each step, on vectors."""
    b = StepGraphBuilder((30,), per_step=True)
    s = b.neuron("lif1", b.layer("fc1", nn.Linear(30, 70), b.x))
    n = b.layer("fc3", nn.Linear(33, 5), b.neuron("lif2", b.layer("fc2", nn.Linear(70, 33), s)))
    x = (torch.rand(7, 4, 30, generator=torch.Generator().manual_seed(0)) < 0.3).float()
    return lowered_graph(b.output(n), x, 7), x


def _add(b: StepGraphBuilder, branch: Node, s: Node) -> Node:
    return b.function(operator.add, branch, s)


def _and(b: StepGraphBuilder, branch: Node, s: Node) -> Node:
    return b.function(operator.mul, branch, s)


def _iand(b: StepGraphBuilder, branch: Node, s: Node) -> Node:
    return b.function(operator.mul, s, b.function(operator.sub, 1.0, branch))


def _sew_resnet18(join: Callable[[StepGraphBuilder, Node, Node], Node]) -> Lowered:
    """Eight blocks, an eighth of the usual channels."""
    b = StepGraphBuilder((3, 16, 16))

    def spiking(name: str, source: Node, channels: int, kernel: int, stride: int = 1) -> Node:
        conv = nn.Conv2d(source.meta["shape"][0], channels, kernel, stride, kernel // 2, bias=False)
        n = b.layer(f"{name}_bn", nn.BatchNorm2d(channels), b.layer(name, conv, source))
        return b.neuron(f"{name}_lif", n, integrate_and_fire())

    s = spiking("stem", b.x, 8, 3)
    for stage, channels in enumerate((8, 16, 32, 64)):
        for block in range(2):
            stride = 2 if stage and not block else 1
            name = f"s{stage}b{block}"
            branch = spiking(f"{name}_b", spiking(f"{name}_a", s, channels, 3, stride), channels, 3)
            same = stride == 1 and s.meta["shape"][0] == channels
            s = join(b, branch, s if same else spiking(f"{name}_down", s, channels, 1, stride))
    pooled = b.layer("flatten", nn.Flatten(), b.layer("pool", nn.AvgPool2d(2), s))
    x = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    return lowered_graph(b.output(b.mean(b.layer("fc", nn.Linear(64, 10), pooled))), x, 4, is_deep=True), x


@cache
def sew_resnet18() -> Lowered:
    """Sums of spikes."""
    return _sew_resnet18(_add)


@cache
def sew_and() -> Lowered:
    """Products of spikes."""
    return _sew_resnet18(_and)


@cache
def sew_iand() -> Lowered:
    """Products of spikes and of what is silent."""
    return _sew_resnet18(_iand)


def _recurrent(library: str) -> Lowered:
    torch.manual_seed(0)
    x = torch.poisson(torch.full((7, 4, 16), 0.6), generator=torch.Generator().manual_seed(0))
    return lower(RECURRENT_MODELS[library]().eval(), x), x


@cache
def rleaky() -> Lowered:
    """SnnTorch's recurrent layer between linear ones, counts of events as input."""
    return _recurrent("snntorch")


@cache
def lif_recurrent() -> Lowered:
    """Norse's recurrent layer and a linear one, counts of events as input."""
    return _recurrent("norse")


@cache
def vgg11() -> Lowered:
    """VGG-11 at the size of CIFAR: 9.2 million weights."""
    b = StepGraphBuilder((3, 32, 32), batch=1)
    s = b.x
    for index, width in enumerate((64, 0, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0)):
        if width == 0:
            s = b.layer(f"pool{index}", nn.MaxPool2d(2), s)
            continue
        conv = nn.Conv2d(s.meta["shape"][0], width, 3, padding=1, bias=False)
        s = b.neuron(f"lif{index}", b.layer(f"bn{index}", nn.BatchNorm2d(width), b.layer(f"conv{index}", conv, s)))
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    n = b.layer("fc", nn.Linear(512, 10), b.layer("flatten", nn.Flatten(), s))
    return lowered_graph(b.output(b.mean(n)), x, 4, is_deep=True), x


def _with_shape(shape: Callable[[StepGraphBuilder, Node], Node], *, per_step: bool) -> Lowered:
    b = StepGraphBuilder((3, 7, 7), per_step=per_step)
    s = b.neuron("lif1", b.layer("conv1", nn.Conv2d(3, 12, 3, padding=1), b.x))
    n = b.layer("fc", nn.LazyLinear(11), b.layer("flatten", nn.Flatten(), shape(b, s)))
    torch.manual_seed(0)
    x = 3 * (torch.rand(4, 3, 3, 7, 7) if per_step else torch.rand(3, 3, 7, 7))
    return lower_graph(b.output(b.mean(n)), x), x


def _with_round(make: Callable[[StepGraphBuilder], Node], *, per_step: bool) -> Lowered:
    return lower_recurrent(make, (EVENT_ROWS, DENSE_ROWS), per_step=per_step)


ROUND = [make for make in RECURRENT if make is not counts]
"""A C library shows spikes, not counts."""


def _with_weights(
    pattern: str, weight_type: str, families: tuple[str, ...] = (STAGGERED_ROWS, SHARED_ROWS, EVENT_ROWS, DENSE_ROWS)
) -> Lowered:
    """Weights of every format, for slabs of several widths and for all outputs; T = 3."""
    b, neuron = StepGraphBuilder((2, 7, 7)), leaky(2.0, v_threshold=0.2)
    s = b.neuron("lif1", b.layer("conv1", nn.Conv2d(2, 24, 3, padding=1), b.x), neuron)
    s = b.neuron("lif2", b.layer("conv2", nn.Conv2d(24, 144, (3, 2), padding=1), s), leaky(2.0, v_threshold=0.5))
    s = b.neuron("lif3", b.layer("conv3", nn.Conv2d(144, 32, 3, padding=1, stride=2), s), leaky(2.0, v_threshold=0.5))
    s = b.neuron("lif4", b.layer("fc1", nn.LazyLinear(40), b.layer("flatten", nn.Flatten(), s)), neuron)
    graph = b.output(b.mean(b.layer("fc2", nn.Linear(40, 8), s)))
    x = torch.rand(4, 2, 7, 7, generator=torch.Generator().manual_seed(0))
    randomize(graph, 0)
    project(graph, Pattern.parse(pattern))
    graph.meta["num_steps"] = 3
    return run_pipeline(lowering(choose_levels(x), Pattern.parse(pattern), families, weight_type), graph), x


C_NAME = str.maketrans({":": "_", "@": "_", "2": "two", "1": "one", "4": "four", "8": "eight", "6": "six"})
"""Networks give C functions their names."""
WEIGHTS = {
    f"{pattern.translate(C_NAME)}_{weight_type}": cache(partial(_with_weights, pattern, weight_type))
    for pattern in ("2:4", "2:4@stagger", "1:4@stagger", "1:8@stagger", "64:2:4", "16:1:8")
    for weight_type in ("int8", "int7", "int4")
}

TABLES = {
    f"tables_{pattern.translate(C_NAME)}_{weight_type}": cache(
        partial(_with_weights, pattern, weight_type, (LOOKUP_TABLES, DENSE_ROWS))
    )
    for pattern, weight_type in (("1:8@stagger", "int8"), ("2:4", "int4"))
}

SMALL: dict[str, Callable[[], Lowered]] = {
    **{f.__name__: cache(partial(_with_shape, f, per_step=bool(i % 2))) for i, f in enumerate(SHAPES)},
    **WEIGHTS,
    **TABLES,
    **{f"round_{f.__name__}": cache(partial(_with_round, f, per_step=True)) for f in ROUND},
    **{f"round_{f.__name__}_static": cache(partial(_with_round, f, per_step=False)) for f in ROUND},
}
"""Every kind of node, and everything that goes round."""

NETWORKS: dict[str, Callable[[], Lowered]] = {
    f.__name__: f for f in (digits, gestures, every_step, rleaky, lif_recurrent, sew_resnet18, sew_and, sew_iand, vgg11)
} | SMALL
