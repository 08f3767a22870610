"""What is timed on a CPU: layers with random weights, the networks that they make up, patterns and types of weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from spikenm_compile.neurons import leaky
from spikenm_compile.ops import SPIKES, IntConv2d, IntConvNeuron, NeuronStep
from spikenm_compile.pattern import Pattern
from spikenm_compile.weight_types import quantize_weight

NUM_STEPS = 4
"""T."""
TAU = 2.0
"""Time constant of the neurons in steps."""
DENSITY = 0.1
"""Share of spikes at which networks are compared."""
DENSITIES = (0.05, DENSITY, 0.2, 0.4)


@dataclass(frozen=True)
class Shape:
    """A layer [C, size, size] to O channels."""

    channels: int
    outputs: int
    size: int
    kernel: int = 3
    stride: int = 1
    is_linear: bool = False

    @property
    def input(self) -> tuple[int, int, int]:
        """[C, H, W]."""
        return self.channels, self.size, self.size


@dataclass(frozen=True, order=True)
class Variant:
    """How the weights of a layer are thinned out and stored."""

    pattern: str
    weight_type: str

    def __str__(self) -> str:
        return f"{self.pattern} {self.weight_type}"


LAYERS = {
    "c64@32": Shape(64, 64, 32),
    "c64-128@32/2": Shape(64, 128, 32, stride=2),
    "c64-128@16": Shape(64, 128, 16),
    "c128@16": Shape(128, 128, 16),
    "c128-256@16/2": Shape(128, 256, 16, stride=2),
    "c128-256@8": Shape(128, 256, 8),
    "c256@8": Shape(256, 256, 8),
    "c256-512@8/2": Shape(256, 512, 8, stride=2),
    "c256-512@4": Shape(256, 512, 4),
    "c512@4": Shape(512, 512, 4),
    "c512@2": Shape(512, 512, 2),
    "fc1024": Shape(1024, 1024, 1, kernel=1, is_linear=True),
}
"""Name -> shape; the size in a name is the input's, /2 a stride of 2."""

NETWORKS = {
    "ResNet-18": (
        *("c64@32",) * 4,
        *("c64-128@32/2", *("c128@16",) * 3),
        *("c128-256@16/2", *("c256@8",) * 3),
        *("c256-512@8/2", *("c512@4",) * 3),
    ),
    "VGG-11": ("c64-128@16", "c128-256@8", "c256@8", "c256-512@4", "c512@4", "c512@2", "c512@2"),
}
"""3 × 3 convolutions that read spikes, of the networks for 32 × 32 pixels."""

PATTERNS = ("2:4", "1:8", "128:2:4", "128:1:8", "2:4@stagger", "1:4@stagger", "1:8@stagger")
WEIGHT_TYPES = ("int8", "int7", "int4")
VARIANTS = tuple(Variant(pattern, weight_type) for pattern in PATTERNS for weight_type in WEIGHT_TYPES)

GOALS = {
    Variant("2:4", "int8"): (2.5, 3.0),
    Variant("2:4", "int4"): (4.0, 6.0),
    Variant("1:8", "int4"): (4.0, 6.0),
    Variant("2:4@stagger", "int7"): (5.0, 7.0),
    Variant("1:4@stagger", "int8"): (7.0, 11.0),
    Variant("1:8@stagger", "int8"): (10.0, 18.0),
}
"""Variant -> how many times ONNX Runtime's int8 it shall be in each of NETWORKS, at `DENSITY`."""


def make_layer(shape: Shape, pattern: Pattern | None, weight_type: str, density: float) -> IntConvNeuron:
    """A layer with normal weights that hold the pattern, and LIF neurons, a few per cent of which spike.

    Weights come from torch's global generator.
    """
    fan_in = shape.channels * shape.kernel**2
    inputs = fan_in if shape.is_linear else shape.channels
    size = (1, 1) if shape.is_linear else (shape.kernel, shape.kernel)
    weight = torch.randn(shape.outputs, inputs, *size)
    weight = weight if pattern is None else pattern.project(weight)
    q, scale = quantize_weight(weight, weight_type)
    q = q.view(shape.outputs, shape.channels, shape.kernel, shape.kernel) if shape.is_linear else q
    padding = 0 if shape.is_linear else shape.kernel // 2
    kept = 1.0 if pattern is None else pattern.density
    conv = IntConv2d(
        q,
        (scale / (fan_in * max(density, 0.01) * kept) ** 0.5).float(),
        torch.zeros(shape.outputs),
        levels=SPIKES,
        stride=(shape.stride, shape.stride),
        padding=(padding, padding),
    )
    conv.pattern, conv.layer, conv.density = pattern, "layer", density
    conv.linear_input = shape.input if shape.is_linear else None
    step = NeuronStep(leaky(TAU))
    step.layer = "lif"
    return IntConvNeuron(conv, step)
