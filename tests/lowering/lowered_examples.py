"""Lowered graphs built by hand, as the passes would leave them: for tests of lowerings and serialisation."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Node

from spikenm_compile.graph import INIT, LAYER, LEVELS, PER_STEP, REGION, ROLE, SHAPE, Region, Role, verify_graph
from spikenm_compile.neurons import Neuron, integrate_and_fire, leaky, parametric_leaky
from spikenm_compile.ops import SPIKES, IntConv2d, IntConvNeuron, Levels, NeuronStep, QuantizeInput
from spikenm_compile.pattern import Pattern

BYTES = Levels(-128, 127, 1 / 37)
IF = integrate_and_fire()
LIF = leaky(2.0)


def int_conv(shape: tuple[int, int, int, int], seed: int = 0, *, levels: Levels = SPIKES, **geometry: Any) -> IntConv2d:
    """A convolution with random int8 weights [O, I/groups, kh, kw] and currents of about the size of a threshold."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randint(-127, 128, shape, generator=generator, dtype=torch.int8)
    gain = 3.0 / (64 * weight[0].numel() ** 0.5 * max(abs(levels.low), levels.high))
    scale = gain * (0.5 + torch.rand(shape[0], generator=generator))
    bias = 0.3 * torch.rand(shape[0], generator=generator)
    conv = IntConv2d(weight, scale, bias, levels=levels, **geometry)
    conv.layer = f"layer.{seed}"
    return conv


class Builder:
    """Builds a lowered graph node by node; shapes come from running the references on zeros."""

    def __init__(self, shape: tuple[int, ...], *, per_step: bool) -> None:
        self.graph, self.root = Graph(), nn.Module()
        self.next: dict[Node, Node] = {}
        self.input = self._placeholder("x", shape, Role.INPUT)
        self.input.meta[PER_STEP] = per_step
        self.num_steps = self._placeholder("num_steps", (), Role.NUM_STEPS)
        self.last_placeholder = self.num_steps
        self.layers = itertools.count(1)

    def state(self, name: str, shape: tuple[int, ...], init: float = 0.0) -> Node:
        """A state of one sample."""
        with self.graph.inserting_after(self.last_placeholder):
            self.last_placeholder = self._placeholder(name, shape, Role.STATE)
        self.last_placeholder.meta[INIT] = init
        return self.last_placeholder

    def module(self, name: str, module: nn.Module, *args: Node, region: Region = Region.STEP) -> Node:
        """A call of a new submodule."""
        self.root.add_module(name, module)
        node = self.graph.call_module(name, args)
        return self._annotate(node, module, region)

    def function(self, function: Callable[..., Any], *args: Any, region: Region = Region.STEP) -> Node:
        """A call of an allowed function."""
        return self._annotate(self.graph.call_function(function, args), function, region)

    def neuron(self, current: Node, neuron: Neuron, *, fused_with: IntConv2d | None = None) -> Node:
        """A layer of neurons, fused with a convolution of `current` if one is given; returns its output."""
        layer = next(self.layers)
        module = NeuronStep(neuron)
        module.layer = f"layer.{layer}"
        shape = current.meta[SHAPE]
        if fused_with is not None:
            shape = tuple(fused_with(torch.zeros(1, *shape)).shape[1:])
        states = [self.state(f"{name}{layer}", shape, first) for name, first in neuron.states.items()]
        call = IntConvNeuron(fused_with, module) if fused_with is not None else module
        results = self.module(f"neuron{layer}", call, current, *states)
        output = self.function(operator.getitem, results, 0)
        self.next |= {state: self.function(operator.getitem, results, i) for i, state in enumerate(states, start=1)}
        output.meta[LAYER] = module.layer
        if neuron.levels is not None:
            output.meta[LEVELS] = neuron.levels
        return output

    def accumulate(self, function: Callable[..., Any], value: Node, init: float = 0.0) -> Node:
        """A state that joins the values of all steps by `function`."""
        total = self.state(f"total_{value.name}", value.meta[SHAPE], init)
        self.next[total] = self.function(function, total, value)
        return self.next[total]

    def build(self, output: Node, *, num_steps: int | None = None) -> GraphModule:
        """The finished graph."""
        states = [n for n in self.graph.nodes if n.op == "placeholder" and n.meta[ROLE] is Role.STATE]
        self.graph.output((output, tuple(self.next[state] for state in states)))
        self.graph.lint()
        graph_module = GraphModule(self.root, self.graph)
        graph_module.meta["num_steps"] = num_steps
        verify_graph(graph_module)
        return graph_module

    def _placeholder(self, name: str, shape: tuple[int, ...], role: Role) -> Node:
        node = self.graph.placeholder(name)
        node.meta |= {ROLE: role, SHAPE: shape}
        return node

    def _annotate(self, node: Node, function: Callable[..., Any], region: Region) -> Node:
        values = torch.fx.node.map_arg(node.args, self._zeros)
        result: Any = function(*values)
        node.meta[REGION] = region
        node.meta[SHAPE] = tuple((result[0] if isinstance(result, tuple) else result).shape[1:])
        return node

    def _zeros(self, node: Node) -> Any:
        if node is self.num_steps:
            return 1
        zeros = torch.zeros(1, *node.meta[SHAPE])
        module = getattr(self.root, str(node.target)) if node.op == "call_module" else None
        return (zeros,) * len(node.args) if isinstance(module, NeuronStep | IntConvNeuron) else zeros


def readout(build: Builder, spikes: Node, kind: str) -> Node:
    """The model's output from the spikes of all steps: mean, sum, max, last or sequence."""
    if kind == "sequence":
        return spikes
    if kind == "last":
        return build.function(operator.mul, spikes, 1.0, region=Region.AFTER)
    if kind == "max":
        most = build.accumulate(torch.maximum, spikes, -float("inf"))
        return build.function(operator.mul, most, 1.0, region=Region.AFTER)
    total = build.accumulate(operator.add, spikes)
    divisor = build.num_steps if kind == "mean" else 1
    return build.function(operator.truediv, total, divisor, region=Region.AFTER)


def network(
    *,
    channels: int = 3,
    size: tuple[int, int] = (9, 7),
    kind: str = "mean",
    per_step: bool = False,
    neuron: Neuron = LIF,
    fused: bool = True,
) -> GraphModule:
    """Quantised first layer (hoisted where the input does not change), max pool, fused layer, linear layer, readout."""
    build = Builder((2, *size), per_step=per_step)
    early = Region.STEP if per_step else Region.BEFORE
    levels = build.module("quantize", QuantizeInput(BYTES), build.input, region=early)
    first = build.module("conv1", int_conv((channels, 2, 3, 3), 1, levels=BYTES, padding=(1, 1)), levels, region=early)
    spikes = build.neuron(first, neuron)
    if min(size) > 1:
        spikes = build.module("pool", nn.MaxPool2d(2), spikes)
    second = int_conv((2 * channels, channels, 3, 3), 2, padding=(1, 1), stride=(2, 2))
    second.pattern, second.kernel, second.why = Pattern(2, 4), "dense-rows", "few channels"
    if fused:
        spikes = build.neuron(spikes, neuron, fused_with=second)
    else:
        spikes = build.neuron(build.module("conv2", second, spikes), neuron)
    flat = build.module("flatten", nn.Flatten(1), spikes)
    return build.build(_classify(build, flat, spikes, kind), num_steps=4)


def _classify(build: Builder, flat: Node, spikes: Node, kind: str) -> Node:
    unflat = build.module("unflatten", nn.Unflatten(1, (flat.meta[SHAPE][0], 1, 1)), flat)
    head = int_conv((5, flat.meta[SHAPE][0], 1, 1), 3)
    head.linear_input = spikes.meta[SHAPE]
    spikes = build.neuron(build.module("head", head, unflat), IF)
    return readout(build, build.module("flatten_out", nn.Flatten(1), spikes), kind)


def residual(kind: str = "mean", *, per_step: bool = True) -> GraphModule:
    """Residual sums of spikes (levels 0..2) and of currents."""
    build = Builder((3, 6, 5), per_step=per_step)
    spikes = build.neuron(build.input, IF)
    other = build.neuron(build.module("a", int_conv((3, 3, 3, 3), 1, padding=(1, 1)), spikes), LIF)
    counts = build.function(operator.add, spikes, other)
    counts.meta[LEVELS] = Levels(0, 2)
    left = build.module("b", int_conv((4, 3, 3, 3), 2, levels=Levels(0, 2), padding=(1, 1)), counts)
    right = build.module("c", int_conv((4, 3, 1, 1), 3), spikes)
    spikes = build.neuron(build.function(operator.add, left, right), IF)
    return build.build(readout(build, spikes, kind))


def one_neuron(neuron: Neuron, shape: tuple[int, ...] = (3, 5, 4)) -> GraphModule:
    """One layer of neurons that returns its spikes of each step."""
    build = Builder(shape, per_step=True)
    return build.build(build.neuron(build.input, neuron))


def one_module(
    module: nn.Module, shape: tuple[int, ...], *, per_step: bool = False, levels: Levels | None = None
) -> GraphModule:
    """One module and a sum over the steps; its input is quantised to `levels` if given."""
    build = Builder(shape, per_step=per_step)
    x = build.input
    if levels is not None:
        x = build.module("quantize", QuantizeInput(levels), x)
    value = build.module("module", module, x)
    return build.build(build.function(operator.mul, build.accumulate(operator.add, value), 1.0, region=Region.AFTER))


RESETS: tuple[dict[str, Any], ...] = (
    {"v_threshold": 1.0, "v_reset": 0.0, "fire": ">="},
    {"v_threshold": 0.7, "v_reset": None, "fire": ">"},
    {"v_threshold": 0.9, "v_reset": -0.13, "fire": ">"},
    {"v_threshold": 1.0, "v_reset": None, "fire": ">="},
)
NEURONS = [
    neuron
    for reset in RESETS
    for neuron in (
        integrate_and_fire(**reset),
        leaky(1.7, **reset),
        leaky(1.7, decay_input=False, **reset),
        parametric_leaky(0.37, **reset),
        parametric_leaky(0.37, decay_input=False, **reset),
    )
]


def random_input(graph_module: GraphModule, num_steps: int, batch: int, seed: int = 0) -> Tensor:
    """An input [T, B, ...] or [B, ...] of the graph."""
    node = next(n for n in graph_module.graph.nodes if n.op == "placeholder" and n.meta[ROLE] is Role.INPUT)
    lead = (num_steps, batch) if node.meta[PER_STEP] else (batch,)
    return 1.5 * torch.randn(*lead, *node.meta[SHAPE], generator=torch.Generator().manual_seed(seed))
