"""Convolutions over one dimension are those of images of one row: [C, L] is [C, 1, L], and no value moves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn
from torch.fx import GraphModule, Node

from spikenm_compile.graph import PER_STEP, REGION, ROLE, SHAPE, Region, Role, add_module, clean_up, module_of, result
from spikenm_compile.ops import NeuronStep
from spikenm_compile.passes.base import Pass
from spikenm_compile.passes.fold_batchnorm import FoldBatchNorm


@dataclass(frozen=True)
class ConvertConv1dToConv2d(Pass):
    """Turn Conv1d, and pools between such layers, into what they are on images of one row.

    Given:
        %conv: [B, 16, 20] = Conv1d[conv](%x: [B, 6, 20])     kernel 3

    Result:
        %unflatten: [B, 6, 1, 20] = Unflatten[unflatten](%x)
        %conv: [B, 16, 1, 20] = Conv2d[conv](%unflatten)      kernel 1 × 3

    Declines: no Conv1d; another layer on such values than Conv1d, pools, neurons and a Flatten of all; a model that
    returns such values.
    """

    name: ClassVar[str] = "convert-conv1d-to-conv2d"
    runs_after: ClassVar[tuple[type[Pass], ...]] = (FoldBatchNorm,)

    def apply(self, graph_module: GraphModule) -> bool:
        """Every value with two dimensions gets one more of size 1."""
        nodes = [node for node in graph_module.graph.nodes if node.op != "output"]
        rows = [node for node in nodes if len(node.meta.get(SHAPE, ())) == 2]
        readers = [node for node in nodes if any(source in rows for source in node.all_input_nodes)]
        has_conv = any(isinstance(module_of(graph_module, node), nn.Conv1d) for node in rows)
        if not has_conv or result(graph_module) in rows or not all(_fits(graph_module, n) for n in {*rows, *readers}):
            return False
        for node in rows:
            _convert(graph_module, node)
        clean_up(graph_module)
        return True


def _fits(graph_module: GraphModule, node: Node) -> bool:
    """Whether what a node computes of [C, L] is known on [C, 1, L]."""
    module = module_of(graph_module, node)
    if isinstance(module, nn.Flatten):
        return (module.start_dim, module.end_dim) == (1, -1)
    return module is None or isinstance(module, NeuronStep) or type(module) in ON_IMAGES


def _convert(graph_module: GraphModule, node: Node) -> None:
    module = module_of(graph_module, node)
    if node.op == "placeholder" and node.meta[ROLE] is Role.INPUT:
        _unflatten(graph_module, node)
        return
    channels, length = node.meta[SHAPE]
    node.meta[SHAPE] = (channels, 1, length)
    if module is not None and type(module) in ON_IMAGES:
        graph_module.set_submodule(str(node.target), ON_IMAGES[type(module)](module))


def _unflatten(graph_module: GraphModule, node: Node) -> None:
    """Make [C, 1, L] of an input [C, L], which stays."""
    channels, length = node.meta[SHAPE]
    with graph_module.graph.inserting_before(next(n for n in graph_module.graph.nodes if n.op != "placeholder")):
        module = nn.Unflatten(2, (1, length))
        new = graph_module.graph.call_module(add_module(graph_module, "unflatten", module))
    node.replace_all_uses_with(new)
    new.args = (node,)
    new.meta = {SHAPE: (channels, 1, length), REGION: Region.STEP if node.meta[PER_STEP] else Region.BEFORE}


def _conv(conv: nn.Conv1d) -> nn.Conv2d:
    padding = conv.padding if isinstance(conv.padding, str) else (0, conv.padding[0])
    image = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        (1, conv.kernel_size[0]),
        (1, conv.stride[0]),
        padding,
        (1, conv.dilation[0]),
        conv.groups,
        bias=conv.bias is not None,
        padding_mode=conv.padding_mode,
    )
    image.weight = nn.Parameter(conv.weight.detach()[:, :, None, :], requires_grad=False)
    if conv.bias is not None:
        image.bias = nn.Parameter(conv.bias.detach(), requires_grad=False)
    if hasattr(conv, "nm_pattern"):
        image.nm_pattern = conv.nm_pattern
    return image


def _max_pool(pool: nn.MaxPool1d) -> nn.MaxPool2d:
    kernel, stride, padding, dilation = map(_one, (pool.kernel_size, pool.stride, pool.padding, pool.dilation))
    return nn.MaxPool2d((1, kernel), (1, stride), (0, padding), (1, dilation), ceil_mode=pool.ceil_mode)


def _avg_pool(pool: nn.AvgPool1d) -> nn.AvgPool2d:
    kernel, stride, padding = map(_one, (pool.kernel_size, pool.stride, pool.padding))
    return nn.AvgPool2d((1, kernel), (1, stride), (0, padding), pool.ceil_mode, pool.count_include_pad)


def _one(size: int | tuple[int, ...]) -> int:
    return size if isinstance(size, int) else size[0]


ON_IMAGES: dict[type[nn.Module], Callable[[Any], nn.Module]] = {
    nn.Conv1d: _conv,
    nn.MaxPool1d: _max_pool,
    nn.AvgPool1d: _avg_pool,
    nn.AdaptiveAvgPool1d: lambda pool: nn.AdaptiveAvgPool2d((1, _one(pool.output_size))),
}
"""Layer on [C, L] -> the same on [C, 1, L]."""
