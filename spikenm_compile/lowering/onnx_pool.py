"""Pooling as ONNX nodes, with every window where PyTorch puts it.

`ceil_mode` becomes padding at the end, computed from the shapes: the two frameworks round the output size alike, but
not all versions of ONNX Runtime drop a last window that would start in the padding.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from torch import nn
from torch.fx import Node

from spikenm_compile.errors import PassError
from spikenm_compile.graph import SHAPE
from spikenm_compile.lowering.onnx_fragment import Fragment
from spikenm_compile.ops import pair


def _sizes(node: Node) -> tuple[tuple[int, int], tuple[int, int]]:
    """(height, width) of a pooling node's input and output."""
    source = node.args[0]
    assert isinstance(source, Node)
    if len(source.meta[SHAPE]) != 3:
        raise PassError(
            f"node '{node.name}' pools a value of shape {list(source.meta[SHAPE])}; 2-D pooling takes "
            "[channels, height, width]; insert an Unflatten"
        )
    (_, *before), (_, *after) = source.meta[SHAPE], node.meta[SHAPE]
    return (before[0], before[1]), (after[0], after[1])


def _end_padding(size: int, out: int, kernel: int, stride: int, padding: int, dilation: int = 1) -> int:
    """Padding after the last row or column that the last window reaches."""
    return max(0, (out - 1) * stride + dilation * (kernel - 1) + 1 - size - padding)


def max_pool(fragment: Fragment, node: Node, pool: nn.MaxPool2d, x: str) -> str:
    """[B, C, H, W] to [B, C, H', W']."""
    if pool.return_indices:
        raise PassError(f"node '{node.name}' returns the indices of its maxima; only the maxima are supported")
    kernel, stride, padding, dilation = map(pair, (pool.kernel_size, pool.stride, pool.padding, pool.dilation))
    before, after = _sizes(node)
    end = [_end_padding(*sizes) for sizes in zip(before, after, kernel, stride, padding, dilation, strict=True)]
    return fragment.op("MaxPool", x, kernel_shape=kernel, strides=stride, pads=[*padding, *end], dilations=dilation)


def avg_pool(fragment: Fragment, node: Node, pool: nn.AvgPool2d, x: str) -> str:
    """[B, C, H, W] to [B, C, H', W']: taps added in PyTorch's order, row by row, which AveragePool leaves open."""
    kernel, stride, padding = map(pair, (pool.kernel_size, pool.stride, pool.padding))
    before, after = _sizes(node)
    end = [_end_padding(*sizes) for sizes in zip(before, after, kernel, stride, padding, strict=True)]
    if any(padding) or any(end):
        x = fragment.op("Pad", x, fragment.constant(np.array([0, 0, *padding, 0, 0, *end], np.int64)))
    axes = fragment.constant(np.array([2, 3], np.int64))
    steps = fragment.constant(np.array(stride, np.int64))
    total = ""
    for tap in np.ndindex(*kernel):
        start = np.array(tap, np.int64)
        stop = start + (np.array(after) - 1) * stride + 1
        window = fragment.op("Slice", x, fragment.constant(start), fragment.constant(stop), axes, steps)
        total = fragment.op("Add", total, window) if total else window
    return fragment.op("Div", total, fragment.constant(_divisors(pool, before, after)))


def _divisors(pool: nn.AvgPool2d, before: tuple[int, int], after: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Number of values that each mean of the output divides by: [H', W'], or one for all."""
    if pool.divisor_override:
        return np.array(pool.divisor_override, np.float32)
    kernel, stride, padding = map(pair, (pool.kernel_size, pool.stride, pool.padding))
    sizes = zip(before, after, kernel, stride, padding, strict=True)
    rows, columns = (np.array(list(_counts(*size, pool.count_include_pad)), np.float32) for size in sizes)
    return np.outer(rows, columns).astype(np.float32)


def _counts(size: int, out: int, kernel: int, stride: int, padding: int, include_padding: bool) -> Iterator[int]:
    """Number of values in each window of one direction."""
    first, last = (-padding, size + padding) if include_padding else (0, size)
    for start in range(-padding, -padding + out * stride, stride):
        yield min(start + kernel, last) - max(start, first)
