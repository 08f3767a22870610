"""What every planner asks a node of the lowered graph. `kernels` says whose kernels these are: native, C, CUDA."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from torch import nn
from torch.fx import GraphModule, Node

from spikenm_compile.errors import PassError
from spikenm_compile.graph import ALLOWED_FUNCTIONS, SHAPE, module_of, result
from spikenm_compile.ops import IntConv2d, IntConvNeuron, pair

Operation = TypeVar("Operation")


def source_of(node: Node) -> Node:
    """The first argument of a node."""
    source = node.args[0]
    assert isinstance(source, Node)
    return source


def size_of(node: Node) -> tuple[int, int, int]:
    """Height, width and channels of a node's value [C], [C, L] or [C, H, W]."""
    shape: tuple[int, ...] = node.meta[SHAPE]
    if len(shape) == 1:
        return 1, 1, shape[0]
    if len(shape) == 2:
        return 1, shape[1], shape[0]
    if len(shape) != 3:
        raise PassError(
            f"'{node.name}' has {len(shape)} dimensions {list(shape)}; kernels take [C], [C, L] and [C, H, W], so "
            f"reshape it or build for onnx"
        )
    return shape[1], shape[2], shape[0]


def operation_of(node: Node, operations: Mapping[Any, Operation], kernels: str) -> Operation:
    """What a target calls the function of a node.

    Raises:
        PassError: the target has no kernel of it.
    """
    if node.target not in operations:
        name = ALLOWED_FUNCTIONS.get(node.target, node.target)  # type: ignore[arg-type]
        known = ", ".join(ALLOWED_FUNCTIONS[function] for function in operations)
        raise PassError(
            f"'{node.name}' ({name}) has no {kernels} kernel; {known} have one, so compute it with these, put it "
            f"before the network, or build for onnx"
        )
    return operations[node.target]


def joined_by(node: Node, kernels: str) -> tuple[Node, Node]:
    """The two values of equal shape that a node joins.

    Raises:
        PassError: their shapes differ.
    """
    first, second = (source for source in node.args if isinstance(source, Node))
    if size_of(first) != size_of(second):
        shapes = " and ".join(f"'{s.name}' {list(s.meta[SHAPE])}" for s in (first, second))
        raise PassError(
            f"'{node.name}' joins {shapes}; {kernels} kernels join values of equal shape; bring them to one shape, or "
            "build for onnx"
        )
    return first, second


def without_kernel(node: Node, module: nn.Module, kernels: str) -> PassError:
    """The refusal of a module that no kernel computes."""
    return PassError(
        f"layer '{node.target}' ({type(module).__name__}) has no {kernels} kernel; convolution, linear, pooling, batch "
        f"norm behind a layer, spiking neurons, sums of two branches and readouts over time have one, so replace it or "
        f"build for onnx"
    )


def reads_state(node: Node, state: Node, kernels: str) -> PassError:
    """The refusal of a node that reads a state which its step updates in place."""
    return PassError(
        f"'{node.name}' uses the state '{state.name}' inside of a step in another way than updating it; {kernels} "
        f"kernels update states in place, so read them out after the last step only, or build for onnx"
    )


def accumulated(lowered: GraphModule, node: Node, state: Node, kernels: str) -> Node:
    """What a running reduction `node` takes in beside its own state.

    Raises:
        PassError: the state is read by anything else.
    """
    if len(state.users) != 1 or state not in node.args or node is result(lowered):
        raise reads_state(node, state, kernels)
    (taken,) = (a for a in node.args if isinstance(a, Node) and a is not state)
    return taken


def halo_of(lowered: GraphModule, node: Node) -> int:
    """Widest padding that a reader of the node's value asks for."""
    widest = 0
    for user in node.users:
        module = module_of(lowered, user)
        conv = module.conv if isinstance(module, IntConvNeuron) else module
        if isinstance(conv, IntConv2d):
            widest = max(widest, *conv.padding)
        elif isinstance(module, nn.MaxPool2d | nn.AvgPool2d):
            widest = max(widest, *pair(module.padding))
        elif isinstance(module, nn.Flatten | nn.Unflatten):
            widest = max(widest, halo_of(lowered, user))
    return widest
