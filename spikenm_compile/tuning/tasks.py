"""What there is to measure: the layers of a network with inputs that they read, and the kernels that take them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from spikenm_compile.costs.amounts import LOOKUP_TABLES, SHARED_ROWS, STAGGERED_ROWS, classes_of, outputs_together
from spikenm_compile.costs.layer_call import LayerCall
from spikenm_compile.costs.row_shapes import slab_width, tile_for
from spikenm_compile.costs.trials import Kernel, Machine, key_of
from spikenm_compile.graph import SHAPE
from spikenm_compile.layer_calls import layer_call, layer_nodes
from spikenm_compile.observation import observe_inputs
from spikenm_compile.ops import IntConv2d, IntConvNeuron
from spikenm_compile.passes.select_kernels import REFUSALS

NUM_INPUTS = 4
"""Samples that a layer is timed on."""
WIDTHS = (16, 32, 64, 128)
"""Tile widths that are tried beside the usual one. Vectors of 192 values take many times as long, and sums of a tile of
256 do not fit the stack."""

Levels = npt.NDArray[np.int16]
"""[T, C, H, W]."""


@dataclass(frozen=True, eq=False)
class Task:
    """A layer to measure."""

    name: str
    key: str
    """Layers of equal key are one task (costs.trials)."""
    call: LayerCall
    layer: IntConv2d | IntConvNeuron
    shape: tuple[int, int, int]
    """[C, H, W] of its input."""
    inputs: tuple[Levels, ...]
    kernels: tuple[Kernel, ...]
    """The usual one first, which the others are compared with."""


def tasks_of(
    lowered: GraphModule, samples: Tensor, families: tuple[str, ...], tile_width: int, machine: Machine
) -> list[Task]:
    """One for each different layer of a network, in the order of the network.

    Args:
        lowered: the lowered graph, with densities and kernels.
        samples: [T, B, ...] where the input changes with time, else [B, ...].
        families: of the target, best first.
        tile_width: the target's.
        machine: that trials are made on.
    """
    read: dict[IntConv2d, list[Tensor]] = {}
    observe_inputs(lowered, samples, lambda conv, levels: read.setdefault(conv, []).append(levels[:NUM_INPUTS]))
    tasks = dict[str, Task]()
    for node, conv in layer_nodes(lowered):
        call = layer_call(lowered, node, conv)
        assert call is not None, "densities are measured while lowering"
        key = key_of(call, machine)
        kernels = kernels_of(conv, call, families, tile_width)
        if key not in tasks and len(kernels) > 1:
            inputs = torch.stack(read[conv], dim=1).to(torch.int16).numpy()
            layer = lowered.get_submodule(str(node.target))
            assert isinstance(layer, IntConv2d | IntConvNeuron)
            tasks[key] = Task(conv.layer, key, call, layer, _shape(node), tuple(inputs), kernels)
    return list(tasks.values())


def _shape(node: Node) -> tuple[int, int, int]:
    source = node.args[0]
    assert isinstance(source, Node)
    channels, height, width = source.meta[SHAPE]
    return channels, height, width


def kernels_of(conv: IntConv2d, call: LayerCall, families: tuple[str, ...], tile_width: int) -> tuple[Kernel, ...]:
    """Every family that takes the layer, at every width that makes a difference; the usual kernel first."""
    usual = tile_for(tile_width, call.num_states)
    taking = [family for family in families if REFUSALS[family](conv) is None]
    kernels = [Kernel(family, usual) for family in taking]
    for family in taking:
        together = _outputs_together(call, family, usual)
        narrower = [width for width in WIDTHS if width < together]
        kernels += [Kernel(family, width) for width in narrower if width != min(usual, together)]
        if usual < together:
            kernels += [Kernel(family, width) for width in WIDTHS if width >= together][:1]
    return tuple(dict.fromkeys(kernels))


def _outputs_together(call: LayerCall, family: str, tile_width: int) -> int:
    """Outputs that one tile could hold at most; none of a family whose tiles have a width of their own."""
    if family == LOOKUP_TABLES:
        return 0
    if family == STAGGERED_ROWS:
        return call.outputs // classes_of(call, tile_width)
    if family == SHARED_ROWS:
        assert call.pattern is not None
        return slab_width(call.outputs, call.pattern.v)
    return outputs_together(call)
