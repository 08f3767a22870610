"""Find out where values are whole numbers: spikes, counts, the quantised input; all else is real."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import ClassVar

from torch import nn
from torch.fx import GraphModule, Node

from spikenm_compile.errors import PassError
from spikenm_compile.graph import INIT, LEVELS, module_of, neuron_of, next_states
from spikenm_compile.ops import IntConv2d, Levels, QuantizeInput
from spikenm_compile.passes.base import Pass
from spikenm_compile.passes.quantize_inputs import QuantizeInputs


@dataclass(frozen=True)
class AnnotateLevels(Pass):
    """Write the levels of every whole-numbered value into `node.meta[LEVELS]`.

    Given:
        %spikes1 = getitem(%lif1, 0)
        %spikes2 = getitem(%lif2, 0)
        %sum = add(%spikes1, %spikes2)

    Result:
        %spikes1 = getitem(%lif1, 0)      # spikes
        %spikes2 = getitem(%lif2, 0)      # spikes
        %sum = add(%spikes1, %spikes2)    # 0..2

    A state that holds what a layer of neurons emitted at the step before has the levels of that.
    """

    name: ClassVar[str] = "annotate-levels"
    runs_after: ClassVar[tuple[type[Pass], ...]] = (QuantizeInputs,)

    def apply(self, graph_module: GraphModule) -> bool:
        """States first, then in the order of the graph."""
        changed = False
        for state, value in next_states(graph_module).items():
            levels = _levels_of_state(graph_module, state, value)
            if levels is not None and state.meta.get(LEVELS) != levels:
                state.meta[LEVELS] = levels
                changed = True
        for node in graph_module.graph.nodes:
            _check_scales(graph_module, node)
            levels = levels_of(graph_module, node)
            if levels is not None and node.meta.get(LEVELS) != levels:
                node.meta[LEVELS] = levels
                changed = True
        return changed


def _levels_of_state(graph_module: GraphModule, state: Node, value: Node) -> Levels | None:
    """Levels of its next value, where that is what neurons emit and its first value is one of them."""
    levels = levels_of(graph_module, value) if value.target is operator.getitem else None
    if levels is None or not levels.low <= state.meta[INIT] <= levels.high:
        return None
    return levels if float(state.meta[INIT]).is_integer() else None


def _check_scales(graph_module: GraphModule, node: Node) -> None:
    """Only layers know the scale of what they read: elsewhere a scaled level would be taken for its value."""
    scaled = [s for s in node.all_input_nodes if (levels := s.meta.get(LEVELS)) is not None and levels.scale != 1.0]
    if scaled and not isinstance(
        module_of(graph_module, node), nn.Conv2d | IntConv2d | nn.MaxPool2d | nn.Flatten | nn.Unflatten
    ):
        raise PassError(
            f"'{node.name}' reads the quantised input '{scaled[0].name}'; only convolution and linear layers may, "
            f"so read the input through a layer first"
        )


def levels_of(graph_module: GraphModule, node: Node) -> Levels | None:
    """Levels of a node's value, from those of its inputs; None: real, or not known here."""
    module = module_of(graph_module, node)
    if isinstance(module, QuantizeInput):
        return module.levels
    inputs = [source.meta.get(LEVELS) for source in node.args if isinstance(source, Node)]
    if isinstance(module, nn.MaxPool2d | nn.Flatten | nn.Unflatten):
        return inputs[0]
    if node.target is operator.getitem and node.args[1] == 0:
        source = node.args[0]
        assert isinstance(source, Node)
        neuron = neuron_of(graph_module, source)
        return None if neuron is None else neuron.neuron.levels
    if node.target is operator.add and len(inputs) == len(node.args):
        return _sum_of(inputs)
    return None


def _sum_of(inputs: list[Levels | None]) -> Levels | None:
    known = [levels for levels in inputs if levels is not None]
    if len(known) < len(inputs) or len({levels.scale for levels in known}) > 1:
        return None
    low, high = sum(levels.low for levels in known), sum(levels.high for levels in known)
    total = Levels(low, high, known[0].scale)
    return total if total.fits_a_byte else None
