"""What each kind of node becomes in a CUDA program: launches of kernels on the buffers of the planner."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import nn
from torch.fx import Node

from spikenm_compile.errors import PassError
from spikenm_compile.graph import (
    INIT,
    LEVELS,
    REGION,
    Region,
    Role,
    module_of,
    placeholders,
)
from spikenm_compile.lowering.cuda.planner import Planner, Value
from spikenm_compile.lowering.cuda.program import Place
from spikenm_compile.lowering.cuda.specs import (
    AccumulateSpec,
    ConvSpec,
    JoinSpec,
    NeuronSpec,
    PoolSpec,
    QuantizeSpec,
    ScalarSpec,
)
from spikenm_compile.lowering.cuda.tensors import LevelBytes, Planes, Reals, SpikeWords
from spikenm_compile.lowering.exact import check_exact
from spikenm_compile.lowering.kernels.values import OPERATIONS
from spikenm_compile.lowering.layout import Geometry
from spikenm_compile.lowering.nodes import (
    accumulated,
    joined_by,
    operation_of,
    reads_state,
    size_of,
    source_of,
    without_kernel,
)
from spikenm_compile.neurons import Neuron
from spikenm_compile.ops import IntConv2d, IntConvNeuron, NeuronStep, QuantizeInput, pair
from spikenm_compile.passes.select_kernels import SPARSE_TENSOR_CORE

KERNELS = "CUDA"


def plan_node(planner: Planner, node: Node) -> None:
    """Plan one call of the lowered graph.

    Raises:
        PassError: no CUDA kernel computes it, or it reads a state that the step updates in place.
    """
    for source in node.all_input_nodes:
        if source in planner.next_state and node.meta[REGION] is Region.STEP:
            raise reads_state(node, source, KERNELS)
        if source in planner.values and node.meta[REGION] is Region.AFTER:
            planner.settle(source)
    module = module_of(planner.lowered, node)
    if module is None:
        _plan_function(planner, node)
    elif type(module) in HANDLERS:
        HANDLERS[type(module)](planner, node, module)
    else:
        raise without_kernel(node, module, KERNELS)


def _plan_function(planner: Planner, node: Node) -> None:
    if node.target is operator.getitem:
        return  # the neuron before it has placed both of its results
    if node in planner.next_state:
        _accumulate(planner, node)
    elif any(a in placeholders(planner.lowered, Role.NUM_STEPS) for a in node.args):
        _scalar(planner, node, source_of(node), float(planner.num_steps), is_left=True)
    elif all(isinstance(a, Node) for a in node.args):
        _join(planner, node)
    else:
        _with_scalar(planner, node)


def _quantize(planner: Planner, node: Node, module: QuantizeInput) -> None:
    source = planner.values[source_of(node)]
    signed = module.levels.low < 0
    out = planner.new(LevelBytes(*size_of(node), source.tensor.steps, planner.halo(node), signed=signed))
    assert isinstance(source.tensor, Planes)
    spec = QuantizeSpec("quantize", source.tensor, out.tensor, module.levels)
    planner.launch(spec, "input", {"source": source.place, "out": out.place})
    planner.values[node] = out


def _view(planner: Planner, node: Node, _module: nn.Module) -> None:
    """Flatten and unflatten: the same bytes where one pixel is all there is, else by way of the user's order."""
    source = planner.values[source_of(node)]
    t = source.tensor
    height, width, channels = size_of(node)
    if not isinstance(t, Planes) and (t.height, t.width, height, width) != (1, 1, 1, 1):
        source = planner.convert(source, Planes(t.height, t.width, t.channels, t.steps))
    planner.values[node] = Value(replace(source.tensor, height=height, width=width, channels=channels), source.place)


def _conv(planner: Planner, node: Node, conv: IntConv2d) -> None:
    source = _levels_of(planner, node, conv)
    planner.values[node] = out = planner.new(Reals(*size_of(node), source.tensor.steps))
    _launch_conv(planner, conv, source, out, None)


def _conv_neuron(planner: Planner, node: Node, module: IntConvNeuron) -> None:
    source, neurons = _levels_of(planner, node, module.conv), _place_neurons(planner, node, module.neuron)
    if source.tensor.steps == planner.num_steps:
        _launch_conv(planner, module.conv, source, neurons.out, neurons)
        return
    current = planner.new(Reals(*size_of(node), source.tensor.steps))
    _launch_conv(planner, module.conv, source, current, None)
    _launch_neurons(planner, neurons, [current])


def _levels_of(planner: Planner, node: Node, conv: IntConv2d) -> Value:
    return planner.as_whole(planner.values[source_of(node)], max(conv.padding), conv.levels)


def _launch_conv(planner: Planner, conv: IntConv2d, source: Value, out: Value, neurons: PlacedNeurons | None) -> None:
    geometry = Geometry((conv.weight.shape[2], conv.weight.shape[3]), conv.stride, conv.padding, conv.dilation)
    is_sparse = conv.kernel == SPARSE_TENSOR_CORE
    neuron, keeps_states = (neurons.neuron, neurons.keeps_states) if neurons else (None, False)
    spec = ConvSpec("conv", source.tensor, out.tensor, geometry, conv.groups, is_sparse, neuron, keeps_states)
    pack = planner.kernel(spec).pack
    assert pack is not None
    places = {
        "source": source.place,
        "weights": planner.program.constant(pack(conv.weight.numpy())),
        "scale": planner.program.constant(conv.scale.numpy()),
        "bias": planner.program.constant(conv.bias.numpy()),
        "out": out.place,
    }
    planner.launch(spec, conv.layer, places | (neurons.places if neurons else {}))


@dataclass(frozen=True)
class PlacedNeurons:
    """A layer of neurons and its buffers."""

    neuron: Neuron
    layer: str
    places: dict[str, Place]
    """Constants per channel and states, by parameter."""
    out: Value
    keeps_states: bool


def _place_neurons(planner: Planner, node: Node, module: NeuronStep) -> PlacedNeurons:
    """Buffers of a layer of neurons; its getitem nodes get their values here."""
    neuron = module.neuron
    check_exact(module)
    results = {user.args[1]: user for user in node.users}
    places = planner.constants(neuron, module.layer, size_of(node)[2])
    keeps_states = planner.keeps_states
    for index, (name, state) in enumerate(zip(neuron.states, node.args[len(neuron.inputs) :], strict=True), start=1):
        assert isinstance(state, Node)
        after = results.get(index)
        if len(state.users) != 1 or after is None or planner.next_state.get(after) is not state:
            raise reads_state(node, state, KERNELS)
        assert state.meta[INIT] == neuron.states[name], f"{state.name} does not begin as its neuron says"
        planner.values[after] = planner.values[state]
        keeps_states = keeps_states or any(user.op != "output" for user in after.users)
        places[f"state_{name}"] = planner.values[state].place
    output = results.get(0, node)
    planner.values[output] = planner.emitted[output] = planner.new(_emitted(planner, neuron, output))
    return PlacedNeurons(neuron, module.layer, places, planner.values[output], keeps_states)


def _emitted(planner: Planner, neuron: Neuron, output: Node) -> SpikeWords | LevelBytes | Reals:
    """Spikes as bits, counts as bytes, real numbers as float32."""
    size = (*size_of(output), planner.num_steps)
    if neuron.levels is None:
        return Reals(*size)
    halo = planner.halo(output)
    return SpikeWords(*size, halo) if neuron.is_binary else LevelBytes(*size, halo, signed=neuron.levels.low < 0)


def _neuron(planner: Planner, node: Node, module: NeuronStep) -> None:
    currents = [planner.values[a] for a in node.args[: len(module.neuron.inputs)] if isinstance(a, Node)]
    _launch_neurons(planner, _place_neurons(planner, node, module), [planner.as_reals(c) for c in currents])


def _launch_neurons(planner: Planner, neurons: PlacedNeurons, currents: list[Value]) -> None:
    spec = NeuronSpec(
        "neuron", tuple(c.tensor for c in currents), neurons.out.tensor, neurons.neuron, neurons.keeps_states
    )
    names = ["source"] if len(currents) == 1 else [f"source{i}" for i in range(len(currents))]
    sources = {name: current.place for name, current in zip(names, currents, strict=True)}
    planner.launch(spec, neurons.layer, {**sources, **neurons.places, "out": neurons.out.place})


def _max_pool(planner: Planner, node: Node, pool: nn.MaxPool2d) -> None:
    if pool.ceil_mode:
        raise PassError(f"pool '{node.target}' uses ceil_mode, which no CUDA kernel has; pad the input instead")
    geometry = Geometry(pair(pool.kernel_size), pair(pool.stride), pair(pool.padding), pair(pool.dilation))
    source = planner.values[source_of(node)]
    if isinstance(source.tensor, SpikeWords):
        tensor: Any = SpikeWords(*size_of(node), source.tensor.steps, planner.halo(node))
    else:
        source = planner.as_reals(source)
        tensor = Reals(*size_of(node), source.tensor.steps)
    _pool(planner, node, PoolSpec("pool", "max", source.tensor, tensor, geometry), source)


def _sum_pool(planner: Planner, node: Node, pool: nn.AvgPool2d) -> None:
    source, levels = planner.values[source_of(node)], node.meta.get(LEVELS)
    if pool.divisor_override != 1 or levels is None or not isinstance(source.tensor, SpikeWords | LevelBytes):
        raise PassError(
            f"layer '{node.target}' (AvgPool2d) averages real values, too many values, or is not read by layers alone; "
            f"CUDA average pools take spikes and counts and feed layers with weights; use max pooling"
        )
    geometry = Geometry(pair(pool.kernel_size), pair(pool.stride), pair(pool.padding))
    tensor = LevelBytes(*size_of(node), source.tensor.steps, planner.halo(node), signed=levels.low < 0)
    _pool(planner, node, PoolSpec("pool", "sum", source.tensor, tensor, geometry), source)


def _pool(planner: Planner, node: Node, spec: PoolSpec, source: Value) -> None:
    planner.values[node] = out = planner.new(spec.out)
    planner.launch(spec, str(node.target), {"source": source.place, "out": out.place})


def _join(planner: Planner, node: Node) -> None:
    a, b = (_readable(planner, planner.values[s]) for s in joined_by(node, KERNELS))
    size, levels = (*size_of(node), max(a.tensor.steps, b.tensor.steps)), node.meta.get(LEVELS)
    if levels is None:
        tensor: Any = Reals(*size)
    elif levels.is_binary and node.target is operator.mul:
        tensor = SpikeWords(*size, planner.halo(node))
    else:
        tensor = LevelBytes(*size, planner.halo(node), signed=levels.low < 0)
    planner.values[node] = out = planner.new(tensor)
    spec = JoinSpec("join", operation_of(node, OPERATIONS, KERNELS), a.tensor, b.tensor, tensor)
    planner.launch(spec, node.name, {"source": a.place, "other": b.place, "out": out.place})


def _readable(planner: Planner, value: Value) -> Value:
    """The user's order is read by conversions only."""
    return planner.as_reals(value) if isinstance(value.tensor, Planes) else value


def _with_scalar(planner: Planner, node: Node) -> None:
    first, second = node.args
    is_left = isinstance(first, Node)
    x, number = (first, second) if is_left else (second, first)
    assert isinstance(x, Node)
    assert isinstance(number, int | float)
    _scalar(planner, node, x, float(number), is_left=is_left)


def _scalar(planner: Planner, node: Node, x: Node, number: float, *, is_left: bool) -> None:
    source = planner.values[x]
    if LEVELS in node.meta and not is_left:  # 1 - spikes: levels are known of no other
        source = planner.as_whole(source, 0, node.meta[LEVELS])
        tensor: Any = SpikeWords(*size_of(node), source.tensor.steps, planner.halo(node))
    else:
        source = planner.as_reals(source)
        tensor = source.tensor
    planner.values[node] = out = planner.new(tensor)
    spec = ScalarSpec("scalar", operation_of(node, OPERATIONS, KERNELS), source.tensor, number, tensor, is_left)
    planner.launch(spec, node.name, {"source": source.place, "out": out.place})


def _accumulate(planner: Planner, node: Node) -> None:
    state = planner.next_state[node]
    x = accumulated(planner.lowered, node, state, KERNELS)
    total, value = planner.values[state], _readable(planner, planner.values[x])
    assert isinstance(total.tensor, Reals)
    spec = AccumulateSpec(
        "readout", operation_of(node, OPERATIONS, KERNELS), value.tensor, total.tensor, planner.num_steps
    )
    planner.launch(spec, node.name, {"source": value.place, "out": total.place})
    planner.values[node] = total


HANDLERS: dict[type[nn.Module], Callable[[Planner, Node, Any], None]] = {
    QuantizeInput: _quantize,
    IntConv2d: _conv,
    IntConvNeuron: _conv_neuron,
    NeuronStep: _neuron,
    nn.MaxPool2d: _max_pool,
    nn.AvgPool2d: _sum_pool,
    nn.Flatten: _view,
    nn.Unflatten: _view,
}
"""Kind of module -> what plans it."""
