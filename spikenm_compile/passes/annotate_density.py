"""Measure how much of its input each layer finds active: what event-driven kernels take, they take per spike."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.fx import GraphModule

from spikenm_compile.observation import observe_inputs
from spikenm_compile.ops import IntConv2d
from spikenm_compile.passes.base import Pass
from spikenm_compile.passes.fuse_neuron import FuseNeuron


@dataclass(frozen=True, eq=False)
class AnnotateDensity(Pass):
    """Set `density` and `mean_level` of each layer: the share of its inputs that are not zero, over samples, positions
    and steps, and the mean magnitude of these.

    Given:
        %lif2 = IntConvNeuron[lif2](%spikes1, %lif2_v)

    Result:
        %lif2 = IntConvNeuron[lif2](%spikes1, %lif2_v) {..., density=0.125}

    Declines: no samples.
    """

    name: ClassVar[str] = "annotate-density"
    runs_after: ClassVar[tuple[type[Pass], ...]] = (FuseNeuron,)

    samples: Tensor | None
    """[T, B, ...] where the input changes with time, else [B, ...]."""

    def apply(self, graph_module: GraphModule) -> bool:
        """Annotates modules."""
        unknown = [m for m in graph_module.modules() if isinstance(m, IntConv2d) and m.density is None]
        if self.samples is None or not unknown:
            return False
        active, all_inputs, levels_of = Counter[IntConv2d](), Counter[IntConv2d](), Counter[IntConv2d]()

        def count(conv: IntConv2d, levels: Tensor) -> None:
            active[conv] += int(torch.count_nonzero(levels))
            all_inputs[conv] += levels.numel()
            levels_of[conv] += int(levels.abs().sum(dtype=torch.float64))

        observe_inputs(graph_module, self.samples, count)
        for conv in unknown:
            conv.density = active[conv] / all_inputs[conv]
            conv.mean_level = levels_of[conv] / max(1, active[conv])
        return True
