"""Layers to tune."""

from __future__ import annotations

import torch
from small_networks import lower_graph
from step_graphs import StepGraphBuilder
from torch import Tensor, nn
from torch.fx import GraphModule

from spikenm_compile.costs.trials import Machine
from spikenm_compile.ops import IntConv2d
from spikenm_compile.passes.annotate_density import AnnotateDensity
from spikenm_compile.passes.select_kernels import DENSE_ROWS, EVENT_ROWS, STAGGERED_ROWS
from spikenm_compile.tuning.tasks import Task, tasks_of

FAMILIES = (STAGGERED_ROWS, EVENT_ROWS, DENSE_ROWS)
MACHINE = Machine("x86-64-v3", "a CPU", ("maker 1",))


def three_layers(pattern: str = "2:4") -> tuple[GraphModule, Tensor]:
    """The second and the third are equal to the log."""
    torch.manual_seed(0)
    b = StepGraphBuilder((3, 6, 6))
    s = b.neuron("lif1", b.layer("conv1", nn.Conv2d(3, 32, 3, padding=1), b.x))
    s = b.neuron("lif2", b.layer("conv2", nn.Conv2d(32, 32, 3, padding=1), s))
    x = torch.rand(3, 3, 6, 6)
    graph = b.output(b.mean(b.neuron("lif3", b.layer("conv3", nn.Conv2d(32, 32, 3, padding=1), s))))
    lowered = lower_graph(graph, x, pattern, families=FAMILIES)
    AnnotateDensity(x).apply(lowered)
    return lowered, x


def tasks(pattern: str = "2:4") -> list[Task]:
    lowered, x = three_layers(pattern)
    convs = {m.layer: m for m in lowered.modules() if isinstance(m, IntConv2d)}
    convs["conv2"].density = convs["conv3"].density = 0.25
    return tasks_of(lowered, x, FAMILIES, 64, MACHINE)
