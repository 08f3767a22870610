"""Layers of counts, images and channel groups against ONNX Runtime's int8 layers, in one run of a minute.

    python -m benchmarks.level_layers
    python -m benchmarks.level_layers --layer first depthwise --cpu x86-64-v3

Batch 1, one thread. An image is the same at all steps, so that its layer runs once, and ONNX Runtime's too; all others
run over T = 4 steps. Ours include event lists, LIF (but for the image) and packing of spikes. Kernels take turns with
the peer; times are CPU time of the thread, the least of the rounds. Weights are random int8.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.cpu_onnx import DenseLayer, channels_last_model
from benchmarks.cpu_peers import OnnxCall
from spikenm_compile.neurons import leaky
from spikenm_compile.ops import SPIKES, IntConv2d, IntConvNeuron, Levels, NeuronStep
from spikenm_compile.passes.select_kernels import DENSE_ROWS, EVENT_ROWS, REFUSALS
from spikenm_compile.report.table import format_table
from spikenm_compile.targets.cpu import CPUS, Cpu, detect
from spikenm_compile.tuning.measure import OnInputs
from spikenm_compile.tuning.native_layer import NativeLayer
from spikenm_compile.tuning.one_layer import one_layer
from spikenm_compile.tuning.stopwatch import least_times

NUM_INPUTS, CALLS = 4, 8


@dataclass(frozen=True)
class Shape:
    """A 3×3 convolution on size × size pixels."""

    channels: int
    outputs: int
    size: int
    levels: Levels = SPIKES
    density: float = 0.1
    """Share of the inputs that are not zero."""
    groups: int = 1
    num_steps: int = 4
    dilation: int = 1


LAYERS = {
    "first 3->64@32": Shape(3, 64, 32, Levels(0, 255), 1.0, num_steps=1),
    "counts 0..2 c64@32": Shape(64, 64, 32, Levels(0, 2)),
    "counts 0..2 c128@16": Shape(128, 128, 16, Levels(0, 2)),
    "counts 0..3 c128@16": Shape(128, 128, 16, Levels(0, 3)),
    "levels 0..255 c128@16": Shape(128, 128, 16, Levels(0, 255), 1.0),
    "4 groups c128@16": Shape(128, 128, 16, groups=4),
    "dilated c128@16": Shape(128, 128, 16, dilation=2),
    "depthwise c128@16": Shape(128, 128, 16, groups=128),
}


def make_layer(shape: Shape) -> IntConv2d | IntConvNeuron:
    """Random weights, scaled so that some neurons spike."""
    weight = torch.randint(-127, 128, (shape.outputs, shape.channels // shape.groups, 3, 3), dtype=torch.int8)
    scale = torch.full((shape.outputs,), 1 / (75 * (weight[0].numel() * shape.density) ** 0.5 * shape.levels.high))
    dilation = (shape.dilation,) * 2
    bias = torch.zeros(shape.outputs)
    conv = IntConv2d(weight, scale, bias, levels=shape.levels, padding=dilation, dilation=dilation, groups=shape.groups)
    conv.layer = "layer"
    if shape.num_steps == 1:
        return conv
    step = NeuronStep(leaky(2.0))
    step.layer = "lif"
    return IntConvNeuron(conv, step)


@dataclass
class Peer:
    """ONNX Runtime's layer, whose time does not depend on its input."""

    call: OnnxCall

    def set_input(self, _index: int) -> None:
        """Every input is alike."""

    def __call__(self) -> None:
        for _ in range(CALLS):
            self.call()


def measure(shape: Shape, cpu: Cpu) -> dict[str, float]:
    """Kernel family or peer -> microseconds."""
    layer, size = make_layer(shape), (shape.channels, shape.size, shape.size)
    conv = layer.conv if isinstance(layer, IntConvNeuron) else layer
    rng = np.random.default_rng(0)
    drawn = [rng.integers(1, shape.levels.high + 1, (shape.num_steps, *size)) for _ in range(NUM_INPUTS)]
    inputs = [(levels * (rng.random(levels.shape) < shape.density)).astype(np.int16) for levels in drawn]
    families = [family for family in (EVENT_ROWS, DENSE_ROWS) if REFUSALS[family](conv) is None]
    timed: list[OnInputs | Peer] = []
    for conv.kernel in families:
        timed.append(OnInputs(NativeLayer(one_layer(layer, size, shape.num_steps), cpu), inputs))
    # the dilated layer's peer is the plain one, which does as much work
    pairs = ((shape.size,) * 2, (3, 3), (1, 1), (1, 1))
    dense = DenseLayer(shape.channels, shape.outputs, *pairs, shape.groups, shape.num_steps, is_linear=False)
    peer = OnnxCall(channels_last_model(dense, has_lif=False), dense, is_channels_last=True)
    times = least_times([*timed, Peer(peer)], NUM_INPUTS)
    return dict(zip([*families, "ONNX Runtime"], [*times[:-1], times[-1] / CALLS], strict=True))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layer", nargs="+", default=list(LAYERS), help="beginnings of names")
    parser.add_argument("--cpu", default=detect().name, choices=[cpu.name for cpu in CPUS])
    options = parser.parse_args(arguments)
    torch.manual_seed(0)
    cpu = next(c for c in CPUS if c.name == options.cpu)
    rows = []
    for name, shape in LAYERS.items():
        if name.startswith(tuple(options.layer)):
            times = measure(shape, cpu)
            peer = times["ONNX Runtime"]
            ours = (f"{times[f]:.0f} ×{peer / times[f]:.1f}" if f in times else "-" for f in (EVENT_ROWS, DENSE_ROWS))
            rows.append((name, f"{peer:.0f}", *ours))
    print(format_table((f"µs on {cpu.name}", "ONNX Runtime int8", EVENT_ROWS, DENSE_ROWS), rows))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
