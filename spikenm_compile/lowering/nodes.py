"""What every planner asks a node of the lowered graph."""

from __future__ import annotations

from torch.fx import Node

from spikenm_compile.errors import PassError
from spikenm_compile.graph import SHAPE


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
