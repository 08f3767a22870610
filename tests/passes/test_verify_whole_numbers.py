"""What has no form in whole numbers is refused by name before anything is rewritten."""

from __future__ import annotations

import operator

import pytest
import torch
from step_graphs import StepGraphBuilder
from torch import nn

from spikenm_compile.errors import PassError
from spikenm_compile.graph import format_graph
from spikenm_compile.ops import Constant
from spikenm_compile.passes.verify_whole_numbers import VerifyWholeNumbers


def test_a_graph_of_layers_and_joins_passes_unchanged() -> None:
    b = StepGraphBuilder((4, 6, 6))
    spikes = b.neuron("lif1", b.layer("conv1", nn.Conv2d(4, 8, 3), b.x))
    joined = b.function(operator.add, spikes, b.function(operator.mul, spikes, 0.5))
    graph = b.output(b.mean(b.neuron("lif2", joined)))
    before = format_graph(graph)
    assert not VerifyWholeNumbers().apply(graph)
    assert format_graph(graph) == before


def test_an_operation_on_dimensions_of_each_sample_is_named() -> None:
    b = StepGraphBuilder((4, 6, 6))
    spikes = b.neuron("lif1", b.layer("conv1", nn.Conv2d(4, 8, 3), b.x))
    graph = b.output(b.mean(b.neuron("lif2", b.function(torch.matmul, spikes, spikes))))
    with pytest.raises(PassError, match="node 'matmul' calls matmul, which has no form in whole numbers; layers, neur"):
        VerifyWholeNumbers().apply(graph)


def test_a_constant_tensor_is_named() -> None:
    b = StepGraphBuilder((4, 6, 6))
    spikes = b.neuron("lif1", b.layer("conv1", nn.Conv2d(4, 8, 3), b.x))
    constant = b.layer("position", Constant(torch.rand(1, 8, 4, 4)), spikes)
    graph = b.output(b.mean(b.neuron("lif2", b.function(operator.add, spikes, constant))))
    with pytest.raises(PassError, match="node 'position' is a constant tensor, which has no form"):
        VerifyWholeNumbers().apply(graph)
