"""Small networks that between them have every kind of node, for tests of targets."""

from __future__ import annotations

import operator

import torch
from step_graphs import StepGraphBuilder, randomize
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from spikenm_compile.graph import Region, run_steps
from spikenm_compile.neurons import integrate_and_fire, leaky, parametric_leaky
from spikenm_compile.passes.base import run_pipeline
from spikenm_compile.passes.pipelines import lowering
from spikenm_compile.passes.quantize_inputs import choose_levels
from spikenm_compile.passes.select_kernels import DENSE_ROWS, EVENT_ROWS
from spikenm_compile.pattern import Pattern


def lower_graph(
    graph: GraphModule,
    x: Tensor,
    pattern: str = "2:4",
    num_steps: int = 4,
    seed: int = 0,
    families: tuple[str, ...] = (EVENT_ROWS, DENSE_ROWS),
) -> GraphModule:
    """Random weights that hold the pattern, lowered."""
    randomize(graph, seed)
    project(graph, Pattern.parse(pattern))
    graph.meta["num_steps"] = num_steps
    return run_pipeline(lowering(choose_levels(x), Pattern.parse(pattern), families), graph)


def project(graph: GraphModule, pattern: Pattern) -> None:
    """Zero what the pattern does not keep."""
    for module in graph.modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and pattern.divides(module.weight.shape[1]):
            with torch.no_grad():
                module.weight.copy_(pattern.project(module.weight))


def fires(graph: GraphModule, x: Tensor) -> dict[str, float]:
    """Share of spikes by layer."""
    with torch.no_grad():
        spikes = run_steps(graph, x, graph.meta["num_steps"]).spikes
    return {layer: float(s.mean()) for layer, s in spikes.items()}


FORMS = [
    integrate_and_fire(v_threshold=0.8, v_reset=None),
    leaky(1.7, v_threshold=0.6, v_reset=-0.1),
    leaky(3.3, decay_input=False, v_threshold=1.0, v_reset=None, fire=">"),
    parametric_leaky(0.37, v_threshold=0.5, v_reset=0.0),
    parametric_leaky(0.61, decay_input=False, v_threshold=1.1, v_reset=0.25),
]


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


def counts_in_groups(b: StepGraphBuilder, s: Node) -> Node:
    """Counts 0..2 in a pool, in groups and under dilation, 0..8 in a linear layer."""
    branch = b.neuron("lif2", b.layer("conv2", nn.Conv2d(12, 12, 3, padding=1), s))
    pooled = b.layer("pool", nn.MaxPool2d(3, 1, 1), b.function(operator.add, branch, s))
    s = b.neuron("lif3", b.layer("grouped", nn.Conv2d(12, 72, 3, padding=2, dilation=2, groups=3), pooled))
    apart = b.neuron("lif4", b.layer("depthwise", nn.Conv2d(72, 72, 3, padding=1, groups=72), s))
    return b.layer("sum", nn.AvgPool2d(2), b.function(operator.add, s, apart))


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
    residual_of_currents,
    residual_of_current_and_spikes,
    pool_of_currents,
    pool_between,
    average_pools,
    grouped_and_dilated,
    counts_in_groups,
    neuron_behind_neuron,
    spikes_of_one_and_not_of_another,
    silence_and_difference,
    sign_squared,
)


def read_out(b: StepGraphBuilder, node: Node, kind: str) -> Node:
    """The output from the values of all steps."""
    if kind == "sequence":
        return node
    if kind == "last":
        return b.function(operator.mul, node, 1.0, region=Region.AFTER)
    total = b.state("total", node.meta["shape"], -float("inf") if kind == "max" else 0.0)
    after = b.function(operator.add if kind == "sum" else torch.maximum, total, node)
    b.states.append((total, after))
    return b.function(operator.mul, after, 1.0, region=Region.AFTER)
