"""What the calls of layers are like (costs.layer_call), asked of the lowered graph."""

from __future__ import annotations

from collections.abc import Iterator

from torch.fx import GraphModule, Node

from spikenm_compile.costs.layer_call import LayerCall
from spikenm_compile.graph import REGION, SHAPE, Region, module_of
from spikenm_compile.ops import IntConv2d, IntConvNeuron, largest_sum


def layer_nodes(lowered: GraphModule) -> Iterator[tuple[Node, IntConv2d]]:
    """Nodes of layers with weights, fused with neurons or not."""
    for node in lowered.graph.nodes:
        module = module_of(lowered, node)
        if isinstance(module, IntConvNeuron):
            yield node, module.conv
        elif isinstance(module, IntConv2d):
            yield node, module


def layer_call(lowered: GraphModule, node: Node, conv: IntConv2d) -> LayerCall | None:
    """The call of the layer at `node` for one sample; None where the density of its input was not measured."""
    if conv.density is None:
        return None
    module, source = module_of(lowered, node), node.args[0]
    assert isinstance(source, Node)
    neuron = module.neuron.neuron if isinstance(module, IntConvNeuron) else None
    shape = source.meta[SHAPE]
    steps = lowered.meta.get("num_steps") if node.meta[REGION] is Region.STEP else 1
    return LayerCall(
        outputs=conv.weight.shape[0],
        channels=shape[0],
        groups=conv.groups,
        size=(shape[1], shape[2]),
        kernel=(conv.weight.shape[2], conv.weight.shape[3]),
        stride=conv.stride,
        padding=conv.padding,
        dilation=conv.dilation,
        pattern=conv.pattern,
        largest_weight=int(conv.weight.abs().max()),
        fits_int16=largest_sum(conv.weight, conv.levels) < 2**15,
        levels=str(conv.levels),
        is_binary=conv.levels.is_binary,
        density=conv.density,
        mean_level=conv.mean_level,
        num_steps=steps or 1,
        neuron=None if neuron is None else str(neuron),
        num_states=0 if neuron is None else len(neuron.states),
        is_linear=conv.linear_input is not None,
    )
