"""Weights to whole numbers of 8, 7 or 4 bits with one scale per output channel (weight_types).

    current = float32(Σ q · level) · (s · level scale) + bias

Kernels that add weight rows for spikes are quicker with smaller weights, others are not: a layer that reads anything
but spikes and small counts keeps int8. `auto` takes for each of the others the smallest type whose error is at most 2 %
of the weights. A layer that was trained in whole numbers keeps those, whatever is asked for.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn
from torch.fx import GraphModule, Node

from spikenm_compile.errors import PassError
from spikenm_compile.graph import LAYER, LEVELS, clean_up, module_of
from spikenm_compile.marks import trained_scale, trained_type
from spikenm_compile.ops import IntConv2d, Levels, pair
from spikenm_compile.passes.annotate_levels import AnnotateLevels
from spikenm_compile.passes.base import Pass
from spikenm_compile.passes.convert_linear_to_conv import ConvertLinearToConv
from spikenm_compile.weight_types import check_weight_type, quantize_weight


@dataclass(frozen=True)
class QuantizeWeights(Pass):
    """Turn each convolution of levels into an integer one.

    Given:
        %conv2 = Conv2d[conv2](%spikes1)    # spikes in

    Result:
        %conv2 = IntConv2d[conv2](%spikes1)

    Errors: a layer that reads real values, is called twice in a step, pads with anything but zeros, or whose weights
    are not finite; an unknown type of weights.
    """

    name: ClassVar[str] = "quantize-weights"
    runs_after: ClassVar[tuple[type[Pass], ...]] = (ConvertLinearToConv, AnnotateLevels)

    weight_type: str = "int8"

    def __post_init__(self) -> None:
        check_weight_type(self.weight_type)

    def apply(self, graph_module: GraphModule) -> bool:
        """Every Conv2d; linear layers are convolutions by now."""
        nodes = [n for n in graph_module.graph.nodes if isinstance(module_of(graph_module, n), nn.Conv2d)]
        _check_calls(nodes)
        for node in nodes:
            conv = graph_module.get_submodule(str(node.target))
            assert isinstance(conv, nn.Conv2d)
            new = quantize_conv(conv, _levels_into(node), node.meta[LAYER], self.weight_type)
            graph_module.set_submodule(str(node.target), new)
        if nodes:
            clean_up(graph_module)
        return bool(nodes)


def _check_calls(nodes: list[Node]) -> None:
    """A layer has one place in the artifact, and one scale of its input."""
    calls = Counter(str(node.target) for node in nodes)
    for node in nodes:
        if calls[str(node.target)] > 1:
            raise PassError(
                f"layer '{node.meta[LAYER]}' is called {calls[str(node.target)]} times in one time step; a layer "
                f"may be called once, so give each call a layer of its own (with equal weights if they are shared)"
            )


def _levels_into(node: Node) -> Levels:
    source = node.args[0]
    assert isinstance(source, Node)
    levels: Levels | None = source.meta.get(LEVELS)
    if levels is None:
        raise PassError(
            f"layer '{node.meta[LAYER]}' reads real values from '{source.name}'; int8 layers read the model's "
            f"input, spikes, or sums of spikes, so put a spiking neuron in front of it"
        )
    return levels


def quantize_conv(conv: nn.Conv2d, levels: Levels, layer: str, weight_type: str = "int8") -> IntConv2d:
    """The integer convolution for an input of these levels."""
    if isinstance(conv.padding, str) or conv.padding_mode != "zeros":
        raise PassError(
            f"layer '{layer}' pads with {conv.padding!r} ({conv.padding_mode}); zero padding given as numbers is "
            f"supported, so write for example padding=1, padding_mode='zeros'"
        )
    if not all(bool(p.isfinite().all()) for p in conv.parameters()):
        raise PassError(
            f"layer '{layer}' has weights that are not finite; whole numbers cannot hold them, so load the weights of "
            f"a training that did not diverge"
        )
    asked = weight_type if levels.is_unary else "int8"
    weight, scale = quantize_weight(conv.weight, trained_type(conv) or asked, trained_scale(conv))
    bias = torch.zeros(conv.out_channels) if conv.bias is None else conv.bias.detach().float()
    new = IntConv2d(
        weight,
        (scale * levels.scale).float(),
        bias.clone(),
        levels=levels,
        stride=pair(conv.stride),
        padding=pair(conv.padding),
        dilation=pair(conv.dilation),
        groups=conv.groups,
    )
    new.layer = layer
    new.linear_input = getattr(conv, "linear_input", None)
    new.pattern = getattr(conv, "nm_pattern", None)
    return new
