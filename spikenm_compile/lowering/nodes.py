"""What every planner asks a node of the lowered graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from torch.fx import Node

from spikenm_compile.errors import PassError
from spikenm_compile.graph import ALLOWED_FUNCTIONS, SHAPE

Operation = TypeVar("Operation")


def source_of(node: Node) -> Node:
    """The first argument of a node."""
    source = node.args[0]
    assert isinstance(source, Node)
    return source


def size_of(node: Node) -> tuple[int, int, int]:
    """Height, width and channels of a node's value [C] or [C, H, W]."""
    shape: tuple[int, ...] = node.meta[SHAPE]
    if len(shape) == 1:
        return 1, 1, shape[0]
    if len(shape) != 3:
        raise PassError(
            f"'{node.name}' has {len(shape)} dimensions {list(shape)}; native kernels take [C] and [C, H, W], "
            f"so reshape it or build for onnx"
        )
    return shape[1], shape[2], shape[0]


def operation_of(node: Node, operations: Mapping[Any, Operation]) -> Operation:
    """What a target calls the function of a node.

    Raises:
        PassError: the target has no kernel of it.
    """
    if node.target not in operations:
        name = ALLOWED_FUNCTIONS.get(node.target, node.target)  # type: ignore[arg-type]
        known = ", ".join(ALLOWED_FUNCTIONS[function] for function in operations)
        raise PassError(
            f"'{node.name}' ({name}) has no native kernel; {known} have one, so compute it with these, put it before "
            f"the network, or build for onnx"
        )
    return operations[node.target]


def joined_by(node: Node) -> tuple[Node, Node]:
    """The two values of equal shape that a node joins.

    Raises:
        PassError: their shapes differ.
    """
    first, second = (source for source in node.args if isinstance(source, Node))
    if size_of(first) != size_of(second):
        shapes = " and ".join(f"'{s.name}' {list(s.meta[SHAPE])}" for s in (first, second))
        raise PassError(
            f"'{node.name}' joins {shapes}; native kernels join values of equal shape; bring them to one shape, or "
            "build for onnx"
        )
    return first, second
