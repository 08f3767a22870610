"""Average pooling in whole numbers: the sum of the window, and one k-th of the scale for the layer behind it.

    mean of k levels = (Σ level) / k = (Σ level) · scale / k        as Levels(k · low, k · high, scale / k)

`AvgPool2d(..., divisor_override=1)` is PyTorch's sum pool.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn
from torch.fx import GraphModule, Node

from spikenm_compile.graph import LEVELS, SHAPE, add_module, clean_up, module_of
from spikenm_compile.levels import LARGEST_COUNT
from spikenm_compile.ops import Levels, pair
from spikenm_compile.passes.annotate_levels import AnnotateLevels, levels_of
from spikenm_compile.passes.base import Pass

PASSES_LEVELS_ON = (nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.MaxPool2d, nn.Flatten, nn.Unflatten)


@dataclass(frozen=True)
class ConvertAvgPoolToSum(Pass):
    """Turn average pools of whole numbers that only layers read into sum pools.

    Given:
        %pool = AvgPool2d[pool](%spikes) {kernel_size=2}
        %conv = Conv2d[conv](%pool)

    Result:
        %pool = AvgPool2d[pool_sum](%spikes) {kernel_size=2}  # 0..4 × 0.25
        %conv = Conv2d[conv](%pool)

    Declines: real values, a reader that does not know scales, sums above 255, windows of unequal size.
    """

    name: ClassVar[str] = "convert-avg-pool-to-sum"
    runs_after: ClassVar[tuple[type[Pass], ...]] = (AnnotateLevels,)

    def apply(self, graph_module: GraphModule) -> bool:
        """In the order of the graph, since one pool may read another."""
        changed = False
        for node in graph_module.graph.nodes:
            converted = _convert(graph_module, node)
            if converted is not None:
                pool, node.meta[LEVELS] = converted
                # a module of its own: other nodes may call the same pool and need its mean
                node.target = add_module(graph_module, f"{node.target}_sum", pool)
                changed = True
            elif (levels := levels_of(graph_module, node)) is not None:
                node.meta[LEVELS] = levels
        if changed:
            clean_up(graph_module)
        return changed


def _convert(graph_module: GraphModule, node: Node) -> tuple[nn.AvgPool2d, Levels] | None:
    """The sum pool for `node` and its levels, or None where there is none."""
    source = node.args[0] if node.args else None
    pool = module_of(graph_module, node)
    if not isinstance(source, Node) or not isinstance(pool, nn.AvgPool2d | nn.AdaptiveAvgPool2d):
        return None
    levels, window = source.meta.get(LEVELS), _window(pool, source.meta[SHAPE], node.meta[SHAPE])
    if levels is None or window is None or not _only_layers_read(graph_module, node):
        return None
    kernel, stride, padding = window
    count = kernel[0] * kernel[1]
    if levels.low < 0 or levels.high * count > LARGEST_COUNT:
        return None
    sum_pool = nn.AvgPool2d(kernel, stride, padding, divisor_override=1)
    return sum_pool, Levels(0, levels.high * count, levels.scale / count)


Pair = tuple[int, int]


def _window(
    pool: nn.AvgPool2d | nn.AdaptiveAvgPool2d, before: tuple[int, ...], after: tuple[int, ...]
) -> tuple[Pair, Pair, Pair] | None:
    """(kernel, stride, padding) where all windows hold the same number of values."""
    if isinstance(pool, nn.AdaptiveAvgPool2d):
        if before[1] % after[1] or before[2] % after[2]:
            return None
        kernel = before[1] // after[1], before[2] // after[2]
        return kernel, kernel, (0, 0)
    kernel, stride, padding = (pair(value) for value in (pool.kernel_size, pool.stride, pool.padding))
    is_even = not pool.ceil_mode and (pool.count_include_pad or padding == (0, 0))
    return (kernel, stride, padding) if is_even and pool.divisor_override is None else None


def _only_layers_read(graph_module: GraphModule, node: Node) -> bool:
    for user in node.users:
        module = module_of(graph_module, user)
        passes_on = isinstance(module, PASSES_LEVELS_ON) and _only_layers_read(graph_module, user)
        if not passes_on and not isinstance(module, nn.Conv2d):
            return False
    return True
