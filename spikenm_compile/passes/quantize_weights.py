"""Weights to int8 with one scale per output channel, or to the smaller integers of 7 or 4 bits.

    q = round(w / s),    s = max|w| / 127 of the output channel
    current = float32(Σ q · level) · (s · level scale) + bias

int7 is -63..63, int4 -7..7. There a few large weights cost all others their precision, so that of the scales that clip
weights beyond max|w| · 0.5, 0.55, ... 1 the one with the least squared error is taken. A zero weight stays zero, so
that an N:M pattern survives.

Kernels that add weight rows for spikes are quicker with smaller weights, others are not: a layer that reads anything
but spikes and small counts keeps int8. `auto` takes for each of the others the smallest type whose error is at most
2 % of the weights.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from spikenm_compile.errors import InputError, PassError
from spikenm_compile.graph import LAYER, LEVELS, clean_up, module_of
from spikenm_compile.ops import IntConv2d, Levels, pair
from spikenm_compile.passes.annotate_levels import AnnotateLevels
from spikenm_compile.passes.base import Pass
from spikenm_compile.passes.convert_linear_to_conv import ConvertLinearToConv

WEIGHT_TYPES = {"int8": 127, "int7": 63, "int4": 7}
"""Name -> largest magnitude; no type uses its most negative number, so that negation never overflows."""
LARGEST = WEIGHT_TYPES["int8"]
AUTO = "auto"
LARGEST_ERROR = 0.02
"""Of |q · s - w| over |w|, both L2 norms of a layer, for `auto`."""
CLIPPED = tuple(percent / 100 for percent in range(100, 45, -5))
"""Shares of max|w| that int7 and int4 may clip weights beyond."""


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


def check_weight_type(name: str) -> None:
    """Check that there is such a type.

    Raises:
        InputError: there is none.
    """
    known = (*WEIGHT_TYPES, AUTO)
    if name not in known:
        raise InputError(f"weights of type '{name}' are unknown; known are {', '.join(known)}; choose one")


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


def quantize_weight(weight: Tensor, weight_type: str = "int8") -> tuple[Tensor, Tensor]:
    """Float [O, ...] to (int8 [O, ...], float64 scale [O]); a channel of zeros gets scale 1."""
    weight = weight.detach().double()
    if weight_type == AUTO:
        for smaller in ("int4", "int7"):
            q, scale = quantize_weight(weight, smaller)
            if _error(weight, q, scale) <= LARGEST_ERROR * weight.norm():
                return q, scale
        return quantize_weight(weight)
    most, rows = WEIGHT_TYPES[weight_type], weight.flatten(1)
    shares = (1.0,) if weight_type == "int8" else CLIPPED
    scales = torch.stack([share * rows.abs().amax(1) / most for share in shares])
    scales = torch.where(scales > 0, scales, 1.0)
    rounded = torch.round(rows / scales[:, :, None]).clamp(-most, most)
    best = (rounded * scales[:, :, None] - rows).square().sum(2).argmin(0)
    channels = torch.arange(len(rows))
    return rounded[best, channels].to(torch.int8).view(weight.shape), scales[best, channels]


def _error(weight: Tensor, q: Tensor, scale: Tensor) -> Tensor:
    error: Tensor = (q.flatten(1) * scale[:, None] - weight.flatten(1)).norm()
    return error


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
    weight, scale = quantize_weight(conv.weight, weight_type if levels.is_unary else "int8")
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
