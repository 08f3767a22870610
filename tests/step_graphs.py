"""Step graphs built by hand, for tests of everything behind the frontend."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Node

from spikenm_compile.graph import INIT, LAYER, PER_STEP, REGION, ROLE, SHAPE, Region, Role, verify_graph
from spikenm_compile.neurons import Neuron, leaky
from spikenm_compile.ops import NeuronStep

LIF = leaky(2.0)


class StepGraphBuilder:
    """Builds a step graph node by node; every node is in region `step` until `mean` or `output`."""

    def __init__(self, shape: tuple[int, ...], *, per_step: bool = False, batch: int = 2) -> None:
        self.graph = Graph()
        self.root = nn.Module()
        self.x = self.graph.placeholder("x")
        self.x.meta = {ROLE: Role.INPUT, PER_STEP: per_step, SHAPE: shape}
        self.num_steps = self.graph.placeholder("num_steps")
        self.num_steps.meta = {ROLE: Role.NUM_STEPS}
        self.states: list[tuple[Node, Node]] = []
        self.batch = batch

    def state(self, name: str, shape: tuple[int, ...], init: float = 0.0) -> Node:
        """A state placeholder, behind the others."""
        last = [n for n in self.graph.nodes if n.op == "placeholder"][-1]
        with self.graph.inserting_after(last):
            node = self.graph.placeholder(name)
        node.meta = {ROLE: Role.STATE, SHAPE: shape, INIT: init}
        return node

    def layer(self, name: str, module: nn.Module, source: Node) -> Node:
        """A module; its output shape is found by running it."""
        self.root.add_module(name, module.eval())
        node = self.graph.call_module(name, (source,))
        with torch.no_grad():
            shape = tuple(module(torch.zeros(self.batch, *source.meta[SHAPE])).shape[1:])
        node.meta = {REGION: Region.STEP, SHAPE: shape, LAYER: name}
        return node

    def neuron(self, name: str, source: Node, neuron: Neuron = LIF, others: tuple[Node, ...] = ()) -> Node:
        """A layer of neurons, `others` being the inputs behind the first; returns its output."""
        module = NeuronStep(neuron)
        module.layer = name
        self.root.add_module(name, module)
        shape = source.meta[SHAPE]
        states = [self.state(f"{name}_{state}", shape, first) for state, first in neuron.states.items()]
        node = self.graph.call_module(name, (source, *others, *states))
        node.meta = {REGION: Region.STEP, SHAPE: shape, LAYER: name}
        output, *after = (self.function(operator.getitem, node, i) for i in range(1 + len(states)))
        self.states += zip(states, after, strict=True)
        return output

    def function(self, target: Any, *args: Any, region: Region = Region.STEP) -> Node:
        """A function of nodes."""
        node = self.graph.call_function(target, args)
        first = next(a for a in args if isinstance(a, Node))
        node.meta = {REGION: region, SHAPE: first.meta[SHAPE]}
        return node

    def concatenation(self, *sources: Node) -> Node:
        """Values one behind the other in their last dimension."""
        shape = sources[0].meta[SHAPE]
        node = self.graph.call_function(torch.cat, (sources, len(shape)))
        node.meta = {REGION: Region.STEP, SHAPE: (*shape[:-1], sum(s.meta[SHAPE][-1] for s in sources))}
        return node

    def mean(self, source: Node) -> Node:
        """Mean over time."""
        total = self.state("total", source.meta[SHAPE])
        after = self.function(operator.add, total, source)
        self.states.append((total, after))
        return self.function(operator.truediv, after, self.num_steps, region=Region.AFTER)

    def output(self, node: Node) -> GraphModule:
        """Finish."""
        order = [n for n in self.graph.nodes if n.op == "placeholder" and n.meta[ROLE] is Role.STATE]
        values = dict(self.states)
        self.graph.output((node, tuple(values[state] for state in order)))
        graph_module = GraphModule(self.root, self.graph)
        graph_module.meta["num_steps"] = 4
        graph_module.eval()
        verify_graph(graph_module)
        return graph_module


def randomize(module: nn.Module, seed: int) -> None:
    """Weights that make neurons spike, and batch norm statistics that are not trivial."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for child in module.modules():
            if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
                ranges = {"weight": (0.5, 2), "bias": (-0.2, 0.8), "running_var": (0.5, 2), "running_mean": (-0.3, 0.3)}
                for name, (low, high) in ranges.items():
                    tensor = getattr(child, name)
                    tensor.copy_(uniform(tensor.shape, low, high, generator))
            elif isinstance(child, nn.Conv2d | nn.Linear):
                fan_in = child.weight[0].numel()
                child.weight.copy_(uniform(child.weight.shape, -2, 2.6, generator) / fan_in**0.5)
                if child.bias is not None:
                    child.bias.copy_(uniform(child.bias.shape, 0, 0.5, generator))


def uniform(shape: Any, low: float, high: float, generator: torch.Generator) -> Tensor:
    """Uniform random tensor."""
    return torch.rand(shape, generator=generator) * (high - low) + low
