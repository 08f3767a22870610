"""A linear layer on two vectors, one behind the other, as the sum of a layer on each.

A recurrent layer may read its input and its previous spikes as one vector. The two differ in their levels and in when
they are known; apart, each gets the levels, the kernel and the region that suit it.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from functools import reduce
from typing import ClassVar

import torch
from torch import nn
from torch.fx import GraphModule, Node

from spikenm_compile.errors import PassError
from spikenm_compile.graph import LAYER, REGION, SHAPE, add_module, clean_up, module_of
from spikenm_compile.marks import WEIGHT_SCALE, WEIGHT_TYPE, trained_type
from spikenm_compile.passes.base import Pass
from spikenm_compile.weight_types import weight_scale


@dataclass(frozen=True)
class SplitConcatenation(Pass):
    """Split each Linear that reads a concatenation of vectors.

    Given:
        %cat: [B, 96] = cat((%x: [B, 64], %previous: [B, 32]), 1)
        %rc: [B, 64] = Linear[rc](%cat)

    Result:
        %rc_0: [B, 64] = Linear[rc_0](%x)           the first 64 columns of the weight, and the bias
        %rc_1: [B, 64] = Linear[rc_1](%previous)    the others
        %rc: [B, 64] = add(%rc_0, %rc_1)

    The layers are named `rc.0` and `rc.1`. A part keeps the pattern that `fold` marked where it starts at a group, and
    the whole numbers that the layer was trained in. Sums are rounded in another order: a membrane potential may differ
    in its last bit.

    Errors: a concatenation that anything but a linear layer reads, or of anything but vectors.
    """

    name: ClassVar[str] = "split-concatenation"

    def apply(self, graph_module: GraphModule) -> bool:
        """Matches first, then rewrites."""
        nodes = [node for node in graph_module.graph.nodes if node.target is torch.cat]
        readers = [(node, reader) for node in nodes for reader in _readers(graph_module, node)]
        for node, reader in readers:
            _split(graph_module, node, reader)
        if nodes:
            clean_up(graph_module)
        return bool(nodes)


def _readers(graph_module: GraphModule, node: Node) -> list[Node]:
    other = [user.name for user in node.users if not isinstance(module_of(graph_module, user), nn.Linear)]
    if other or len(node.meta[SHAPE]) != 1:
        raise PassError(
            f"'{node.name}' puts values of shape {list(node.meta[SHAPE])} one behind the other for "
            f"{', '.join(other or [user.name for user in node.users])}; a concatenation of vectors that linear layers "
            "read is supported; give each value a layer of its own and add the results"
        )
    return list(node.users)


def _split(graph_module: GraphModule, node: Node, reader: Node) -> None:
    sources: tuple[Node, ...] = node.args[0]  # type: ignore[assignment]
    linear = graph_module.get_submodule(str(reader.target))
    assert isinstance(linear, nn.Linear)
    first, parts = 0, list[Node]()
    with graph_module.graph.inserting_before(reader):
        for i, source in enumerate(sources):
            part = _columns(linear, first, source.meta[SHAPE][0])
            call = graph_module.graph.call_module(add_module(graph_module, f"{reader.target}_{i}", part), (source,))
            call.meta = {**reader.meta, LAYER: f"{reader.meta[LAYER]}.{i}"}
            parts.append(call)
            first += part.in_features
        total = reduce(lambda left, right: _add(graph_module, left, right), parts)
    reader.replace_all_uses_with(total)
    graph_module.graph.erase_node(reader)


def _add(graph_module: GraphModule, left: Node, right: Node) -> Node:
    node = graph_module.graph.call_function(operator.add, (left, right))
    node.meta = {REGION: left.meta[REGION], SHAPE: left.meta[SHAPE]}
    return node


def _columns(linear: nn.Linear, first: int, count: int) -> nn.Linear:
    """The layer of some of the inputs; the first part has the bias."""
    part = nn.Linear(count, linear.out_features, bias=linear.bias is not None and first == 0)
    part.weight = nn.Parameter(linear.weight.detach()[:, first : first + count], False)
    if part.bias is not None:
        part.bias = nn.Parameter(linear.bias.detach(), False)
    pattern = getattr(linear, "nm_pattern", None)
    if pattern is not None and first % pattern.m == 0 and pattern.divides(count):
        part.nm_pattern = pattern.plain if pattern.staggered and first else pattern  # its groups count from 0 again
    if (kind := trained_type(linear)) is not None:
        setattr(part, WEIGHT_TYPE, kind)
        setattr(part, WEIGHT_SCALE, weight_scale(linear.weight, kind))
    return part.eval()
