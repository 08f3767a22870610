"""A layer and the neuron behind it as one operation: the current never reaches memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch.fx import GraphModule, Node

from spikenm_compile.graph import LAYER, REGION, clean_up, module_of
from spikenm_compile.ops import IntConv2d, IntConvNeuron, NeuronStep
from spikenm_compile.passes.base import Pass
from spikenm_compile.passes.pack_nm_weights import PackNMWeights


@dataclass(frozen=True)
class FuseNeuron(Pass):
    """Fuse an integer convolution with the neuron that alone reads its current.

    Given:
        step:
          %conv2 = IntConv2d[conv2](%spikes1)
          %lif2 = NeuronStep[lif2](%conv2, %lif2_v)    # (spikes, next v)

    Result:
        step:
          %lif2 = IntConvNeuron[lif2](%spikes1, %lif2_v)

    Declines: a current with other readers, or one computed before the time loop; a neuron that emits counts or real
    numbers or has several inputs, which are computed by a kernel of their own.
    """

    name: ClassVar[str] = "fuse-neuron"
    runs_after: ClassVar[tuple[type[Pass], ...]] = (PackNMWeights,)

    def apply(self, graph_module: GraphModule) -> bool:
        """Matches first, then rewrites."""
        pairs = [pair for node in graph_module.graph.nodes if (pair := _match(graph_module, node)) is not None]
        for conv, neuron in pairs:
            _fuse(graph_module, conv, neuron)
        if pairs:
            clean_up(graph_module)
        return bool(pairs)


def _match(graph_module: GraphModule, node: Node) -> tuple[Node, Node] | None:
    neuron = module_of(graph_module, node)
    if not isinstance(neuron, NeuronStep) or not neuron.neuron.is_binary or len(neuron.neuron.inputs) > 1:
        return None
    conv = node.args[0]
    if not isinstance(conv, Node) or not isinstance(module_of(graph_module, conv), IntConv2d):
        return None
    return (conv, node) if len(conv.users) == 1 and conv.meta[REGION] is node.meta[REGION] else None


def _fuse(graph_module: GraphModule, conv: Node, node: Node) -> None:
    layer, neuron = module_of(graph_module, conv), module_of(graph_module, node)
    assert isinstance(layer, IntConv2d)
    assert isinstance(neuron, NeuronStep)
    graph_module.set_submodule(str(node.target), IntConvNeuron(layer, neuron))
    node.args = (conv.args[0], *node.args[1:])
    node.meta[LAYER] = conv.meta[LAYER]
    graph_module.graph.erase_node(conv)
