"""ONNX nodes of one node of a lowered graph. Each equals its PyTorch reference in `ops` bit for bit.

All values are float32 tensors, batch first. Weights are stored as int8 and cast, so that a Conv adds whole numbers
below 2^24: exact in any order. Between the Conv and its scale stands a Round, which changes nothing in a whole number
but keeps optimisers from folding the scale into the weights; it also absorbs the error of a Winograd convolution.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
import torch
from onnx import TensorProto
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from spikenm_compile import ops
from spikenm_compile.errors import PassError
from spikenm_compile.graph import ALLOWED_FUNCTIONS, REGION, ROLE, SHAPE, Region, Role, module_of
from spikenm_compile.lowering.onnx_fragment import Fragment
from spikenm_compile.lowering.onnx_neuron import neuron_step
from spikenm_compile.lowering.onnx_pool import avg_pool, max_pool

Value: TypeAlias = str | tuple[str, ...]
"""Name of an ONNX value, or the names of (output, *next states) of neurons."""


def lower_region(fragment: Fragment, graph_module: GraphModule, region: Region, values: dict[Node, Value]) -> None:
    """Add all nodes of one region to `fragment` and their values to `values`."""
    for node in graph_module.graph.nodes:
        if node.op.startswith("call_") and node.meta[REGION] is region:
            fragment.prefix = node.name
            values[node] = _lower_node(fragment, graph_module, node, values)


def _lower_node(fragment: Fragment, graph_module: GraphModule, node: Node, values: dict[Node, Value]) -> Value:
    if node.kwargs:
        raise PassError(f"node '{node.name}' has keyword arguments {sorted(node.kwargs)}; give them by position")
    module = module_of(graph_module, node)
    if module is None:
        return _function(fragment, node, values)
    lower = _MODULES.get(type(module))
    if lower is None:
        supported = ", ".join(sorted(kind.__name__ for kind in _MODULES))
        raise PassError(f"node '{node.name}' is a {type(module).__name__}; ONNX lowering knows {supported}")
    return lower(fragment, node, module, *(_argument(fragment, node, argument, values) for argument in node.args))


_FUNCTIONS: dict[Callable[..., Any], str] = {
    operator.add: "Sum",  # not Add: see _current
    operator.sub: "Sub",
    operator.mul: "Mul",
    operator.truediv: "Div",
    torch.maximum: "Max",
}


def _function(fragment: Fragment, node: Node, values: dict[Node, Value]) -> Value:
    if node.target is operator.getitem:
        source, index = node.args
        parts = values[source] if isinstance(source, Node) else ""
        if isinstance(parts, str) or not isinstance(index, int) or not 0 <= index < len(parts):
            raise PassError(f"node '{node.name}' takes item {index} of a value that is not (output, *states)")
        return parts[index]
    op_type = _FUNCTIONS.get(node.target)  # type: ignore[arg-type]
    if op_type is None:
        name = ALLOWED_FUNCTIONS.get(node.target, node.target)  # type: ignore[arg-type]
        known = ", ".join(ALLOWED_FUNCTIONS[function] for function in _FUNCTIONS)
        raise PassError(f"node '{node.name}' calls {name}; ONNX lowering knows {known}; compute it with these")
    return fragment.op(op_type, *(_argument(fragment, node, argument, values) for argument in node.args))


def _argument(fragment: Fragment, node: Node, argument: object, values: dict[Node, Value]) -> str:
    if isinstance(argument, int | float):
        return fragment.scalar(argument)
    value = values[argument] if isinstance(argument, Node) else None
    if not isinstance(argument, Node) or not isinstance(value, str):
        raise PassError(f"node '{node.name}' has argument {argument!r}; ONNX lowering takes single tensors and numbers")
    if argument.meta.get(ROLE) is Role.NUM_STEPS:
        return fragment.op("Cast", value, to=TensorProto.FLOAT)
    return value


def _quantize(fragment: Fragment, _: Node, module: ops.QuantizeInput, x: str) -> str:
    low, high = fragment.scalar(module.levels.low), fragment.scalar(module.levels.high)
    q = fragment.op("Round", fragment.op("Div", x, fragment.scalar(module.levels.scale)))
    q = fragment.op("Where", fragment.op("Greater", q, low), q, low)  # not Max: NaN becomes low
    return fragment.op("Where", fragment.op("Less", q, high), q, high)


def _current(fragment: Fragment, node: Node, conv: ops.IntConv2d, levels: str) -> str:
    """float32(Σ weight · levels) · scale + bias."""
    scale = fragment.constant(_per_channel(conv.scale), "scale")
    bias = fragment.constant(_per_channel(conv.bias), "bias")
    sums = _sums(fragment, node, conv, levels)
    # Sum, not Add: ONNX Runtime removes an Add of a single 0.0, which turns -0.0 into 0.0.
    return fragment.op("Sum", fragment.op("Mul", sums, scale), bias)


def _per_channel(values: Tensor) -> Any:
    return values.detach().cpu().numpy()[:, None, None]


def _sums(fragment: Fragment, node: Node, conv: ops.IntConv2d, levels: str) -> str:
    """Σ weight · levels: one Conv where float32 is exact, else one for each part, added as int64."""
    sums = [_conv(fragment, conv, part, levels) for part in _exact_parts(node, conv)]
    if len(sums) == 1:
        return fragment.op("Round", sums[0])
    total, *others = (fragment.op("Cast", part, to=TensorProto.INT64) for part in sums)
    for part in others:
        total = fragment.op("Add", total, part)
    return fragment.op("Cast", total, to=TensorProto.FLOAT)


def _conv(fragment: Fragment, conv: ops.IntConv2d, weight: Tensor, levels: str) -> str:
    stored = fragment.constant(weight.cpu().numpy(), "weight")
    return fragment.op(
        "Conv",
        levels,
        fragment.op("Cast", stored, to=TensorProto.FLOAT),
        kernel_shape=tuple(weight.shape[2:]),
        strides=conv.stride,
        pads=conv.padding * 2,
        dilations=conv.dilation,
        group=conv.groups,
    )


def _exact_parts(node: Node, conv: ops.IntConv2d) -> list[Tensor]:
    """The weight as the sum of as few weights as keep every sum below 2^24."""
    num_taps = conv.weight[0].numel()
    num_parts = 1
    while num_parts < 2 * num_taps:
        parts = list(_split(conv.weight, num_parts))
        if all(ops.exact_dtype(part, conv.levels) is torch.float32 for part in parts):
            return parts
        num_parts *= 2
    raise PassError(
        f"node '{node.name}' multiplies int8 weights with levels {conv.levels}; ONNX lowering needs products below "
        "2^24; quantise the input to fewer levels"
    )


def _split(weight: Tensor, num_parts: int) -> Iterator[Tensor]:
    """Weights of the same shape, each zero outside of its range of taps, that add up to `weight`."""
    part_of_tap = torch.arange(weight[0].numel()).reshape(weight[0].shape) * num_parts // weight[0].numel()
    for part in range(num_parts):
        yield weight * (part_of_tap == part)


def _conv_neuron(
    fragment: Fragment, node: Node, module: ops.IntConvNeuron, levels: str, *states: str
) -> tuple[str, ...]:
    return neuron_step(fragment, node, module.neuron, _current(fragment, node, module.conv, levels), *states)


def _reshape(fragment: Fragment, node: Node, _: nn.Module, x: str) -> str:
    return fragment.op("Reshape", x, fragment.constant(np.array([0, *node.meta[SHAPE]], np.int64)))  # 0: keep the batch


_MODULES: dict[type[nn.Module], Callable[..., Value]] = {
    ops.QuantizeInput: _quantize,
    ops.IntConv2d: _current,
    ops.NeuronStep: neuron_step,
    ops.IntConvNeuron: _conv_neuron,
    nn.MaxPool2d: max_pool,
    nn.AvgPool2d: avg_pool,
    nn.Flatten: _reshape,
    nn.Unflatten: _reshape,
}
