"""Portable C on layers of every pattern and type of weights: bit for bit, and with nothing that sanitizers find."""

from __future__ import annotations

import itertools
import random
import shutil
from pathlib import Path

import pytest
import torch
from c_networks import CNetwork
from small_networks import fires, project
from step_graphs import StepGraphBuilder, randomize
from torch import Tensor, nn
from torch.fx import GraphModule

from spikenm_compile.lowering.c.weights import Rows
from spikenm_compile.neurons import leaky
from spikenm_compile.passes.base import run_pipeline
from spikenm_compile.passes.pipelines import lowering
from spikenm_compile.passes.quantize_inputs import choose_levels
from spikenm_compile.pattern import Pattern
from spikenm_compile.targets import get_target
from spikenm_compile.weight_types import WEIGHT_TYPES, WeightType

PATTERNS = ("2:4", "1:4", "2:8", "1:8", "1:16", "2:4@stagger", "1:8@stagger", "16:2:4", "64:1:8")
CHANNELS = (1, 3, 16, 17, 48, 63, 64, 65, 100)


def network(draw: random.Random, pattern: Pattern, weight_type: WeightType) -> tuple[GraphModule, Tensor]:
    """Channels, kernels, strides, paddings, dilations, groups and numbers of steps at random."""
    size = draw.choice((1, 2, 5, 8))
    b, channels = StepGraphBuilder((3, size, size)), [3, *draw.choices(CHANNELS, k=3)]
    s = b.x
    for i, (inputs, outputs) in enumerate(itertools.pairwise(channels)):
        kernel, stride, dilation = draw.choice((1, 3, 3)), draw.choice((1, 1, 2)), draw.choice((1, 1, 2))
        groups = inputs if outputs == inputs else 1
        conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2 * dilation, dilation, groups)
        s = b.neuron(f"lif{i}", b.layer(f"conv{i}", conv, s), leaky(2.0, v_threshold=0.2))
    graph = b.output(b.mean(b.layer("fc", nn.LazyLinear(10), b.layer("flatten", nn.Flatten(), s))))
    randomize(graph, draw.randrange(2**30))
    project(graph, pattern)
    x = torch.rand(2, 3, size, size)
    graph.meta["num_steps"] = draw.choice((1, 3, 4, 7))
    return run_pipeline(lowering(choose_levels(x), pattern, get_target("c").families, weight_type), graph), x


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
@pytest.mark.parametrize(
    ("seed", "pattern", "weight_type", "rows"),
    [
        pytest.param(i, pattern, weight_type, rows, marks=() if i % 18 == 7 else pytest.mark.long)
        for i, (pattern, weight_type, rows) in enumerate(itertools.product(PATTERNS, WEIGHT_TYPES, ("dense", "sparse")))
    ],
)
def test_networks_at_random(tmp_path: Path, seed: int, pattern: str, weight_type: WeightType, rows: Rows) -> None:
    graph, x = network(random.Random(seed), Pattern.parse(pattern), weight_type)
    assert max(fires(graph, x).values()) > 0
    CNetwork.write(graph, tmp_path, rows=rows).check(x)
