"""Compute once what does not change over time.

Direct coding feeds the same image at each of T steps, so that everything up to the first neuron is T times the same
work; four copies of a first layer cost four times the time of one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch.fx import GraphModule, Node

from spikenm_compile.graph import PER_STEP, REGION, ROLE, Region, Role
from spikenm_compile.passes.base import Pass
from spikenm_compile.passes.split_concatenation import SplitConcatenation


@dataclass(frozen=True)
class HoistTimeInvariant(Pass):
    """Move nodes that depend on no state and on no per-step input from `step` to `before`.

    Given:
        step:
          %conv1 = Conv2d[conv1](%x)
          %lif1 = NeuronStep[lif1](%conv1, %lif1_v)

    Result:
        before:
          %conv1 = Conv2d[conv1](%x)
        step:
          %lif1 = NeuronStep[lif1](%conv1, %lif1_v)

    Declines: a node whose value the model returns for every step.
    """

    name: ClassVar[str] = "hoist-time-invariant"
    runs_after: ClassVar[tuple[type[Pass], ...]] = (SplitConcatenation,)

    def apply(self, graph_module: GraphModule) -> bool:
        """Regions only; the graph stays as it is."""
        moved = False
        for node in graph_module.graph.nodes:
            if node.meta.get(REGION) is Region.STEP and self._is_invariant(node):
                node.meta[REGION] = Region.BEFORE
                moved = True
        return moved

    @staticmethod
    def _is_invariant(node: Node) -> bool:
        if any(user.op == "output" for user in node.users):
            return False
        return all(_is_constant_over_time(source) for source in node.all_input_nodes)


def _is_constant_over_time(node: Node) -> bool:
    if node.op == "placeholder":
        return node.meta[ROLE] is Role.INPUT and not node.meta[PER_STEP]
    return node.meta[REGION] is Region.BEFORE
