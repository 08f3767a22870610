"""Fold batch normalisation into the layer before it.

    BN(w·x + b) = k·(w·x + b - mean) + β = (k·w)·x + (k·(b - mean) + β),    k = γ / sqrt(var + ε)

per output channel, computed in float64 and rounded once. The folded layer is not bit-equal to the pair: a membrane
potential that comes within rounding of the threshold may spike one step earlier or later.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, get_args

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from spikenm_compile.graph import REGION, SHAPE, clean_up, module_of
from spikenm_compile.marks import copy_marks
from spikenm_compile.passes.base import Pass

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
Layer = Convolution | nn.Linear
Norm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d


@dataclass(frozen=True)
class FoldBatchNorm(Pass):
    """Fold each BatchNorm whose input is a convolution or linear layer that nothing else uses.

    Given:
        %conv = Conv2d[conv](%x)
        %bn = BatchNorm2d[bn](%conv)

    Result:
        %conv = Conv2d[conv](%x)        with new weight and bias

    Declines: a BatchNorm before its layer, one whose layer has other users or another call, one without running
    statistics, and one behind a linear layer that reads anything but vectors (its channels are other ones).
    """

    name: ClassVar[str] = "fold-batchnorm"

    def apply(self, graph_module: GraphModule) -> bool:
        """Matches first, then rewrites."""
        pairs = [pair for node in graph_module.graph.nodes if (pair := _match(graph_module, node)) is not None]
        for layer, norm in pairs:
            folded = fold(graph_module.get_submodule(str(layer.target)), graph_module.get_submodule(str(norm.target)))
            graph_module.set_submodule(str(layer.target), folded)
            layer.meta[REGION] = norm.meta[REGION]  # of a norm that is returned for every step
            norm.replace_all_uses_with(layer)
            graph_module.graph.erase_node(norm)
        if pairs:
            clean_up(graph_module)
        return bool(pairs)


def _match(graph_module: GraphModule, node: Node) -> tuple[Node, Node] | None:
    norm = module_of(graph_module, node)
    if not isinstance(norm, Norm) or norm.running_mean is None:
        return None
    layer = node.args[0]
    if not isinstance(layer, Node) or len(layer.users) != 1 or _num_calls(graph_module, layer) != 1:
        return None
    module = module_of(graph_module, layer)
    is_per_channel = isinstance(module, Convolution) or (isinstance(module, nn.Linear) and len(layer.meta[SHAPE]) == 1)
    return (layer, node) if is_per_channel else None


def _num_calls(graph_module: GraphModule, node: Node) -> int:
    return sum(n.op == "call_module" and n.target == node.target for n in graph_module.graph.nodes)


def fold(layer: nn.Module, norm: nn.Module) -> Layer:
    """A new layer that computes norm(layer(x)) with the running statistics."""
    assert isinstance(layer, Layer)
    assert isinstance(norm, Norm)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    gamma, beta = _or(norm.weight, 1.0, norm), _or(norm.bias, 0.0, norm)
    k = gamma / torch.sqrt(norm.running_var.double() + norm.eps)
    old_bias = torch.zeros_like(k) if layer.bias is None else layer.bias.detach().double()
    weight = layer.weight.detach().double() * k.view(-1, *[1] * (layer.weight.dim() - 1))
    return with_weight(layer, weight.float(), (k * (old_bias - norm.running_mean.double()) + beta).float())


def _or(parameter: Tensor | None, default: float, norm: Norm) -> Tensor:
    if parameter is None:
        return torch.full((norm.num_features,), default, dtype=torch.float64)
    return parameter.detach().double()


def with_weight(layer: Layer, weight: Tensor, bias: Tensor) -> Layer:
    """A plain layer of the same geometry with these weights; the marks of `fold` stay."""
    if isinstance(layer, nn.Linear):
        new: Layer = nn.Linear(layer.in_features, layer.out_features)
    else:
        geometry = (layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding)
        kind: type[Convolution] = next(k for k in get_args(Convolution) if isinstance(layer, k))
        new = kind(*geometry, layer.dilation, layer.groups, padding_mode=layer.padding_mode)  # type: ignore[arg-type]
    new.weight, new.bias = nn.Parameter(weight, False), nn.Parameter(bias, False)
    copy_marks(layer, new)
    return new
