"""Native layers with LIF neurons against ONNX Runtime's int8 layers without, layer by layer, in one run of minutes.

    python -m benchmarks.cpu_layers                        # this machine's CPU, 10 % spikes
    python -m benchmarks.cpu_layers --density 5 20 40 --layer c256@8 --cpu x86-64-v3

T = 4, batch 1, one thread. Ours include event lists, LIF and packing of spikes; eight inputs, drawn at random, take
turns, and the result of one call is compared with the reference. Variants and peer take turns too, so that a busy
machine slows all of them; times are CPU time of the thread, median and least of the rounds. Weights are normal.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from benchmarks.cpu_kernels import NEURON, Array, NativeLayer, spike_words
from benchmarks.cpu_peers import Run, onnx_layer
from spikenm_compile.neurons import step
from spikenm_compile.ops import SPIKES, IntConv2d
from spikenm_compile.passes.select_kernels import EVENT_ROWS, STAGGERED_ROWS
from spikenm_compile.pattern import Pattern
from spikenm_compile.report.table import format_table
from spikenm_compile.targets.cpu import CPUS, detect
from spikenm_compile.weight_types import quantize_weight

NUM_STEPS, NUM_INPUTS = 4, 8
PEER = "ONNX Runtime int8"


@dataclass(frozen=True)
class Shape:
    """A convolution of `channels` to as many, on size × size pixels."""

    channels: int
    size: int
    kernel: int = 3
    padding: int = 1


LAYERS = {
    "c64@32": Shape(64, 32),
    "c128@16": Shape(128, 16),
    "c256@8": Shape(256, 8),
    "c512@4": Shape(512, 4),
    "fc1024": Shape(1024, 1, 1, 0),
}
VARIANTS = [(p, w) for p in ("2:4", "2:4@stagger", "1:4@stagger", "1:8@stagger") for w in ("int8", "int7", "int4")]


def make_layer(shape: Shape, pattern: Pattern, weight_type: str, density: float) -> IntConv2d:
    """Normal weights that hold the pattern, scaled so that a few per cent of the neurons spike."""
    c, kernel = shape.channels, shape.kernel
    weight = torch.randn((c, c, kernel, kernel), generator=torch.Generator().manual_seed(0))
    q, scale = quantize_weight(pattern.project(weight), weight_type)
    current = (c * kernel**2 * pattern.density * max(density, 0.01)) ** 0.5
    conv = IntConv2d(q, (scale / current).float(), torch.zeros(c), levels=SPIKES, padding=(shape.padding,) * 2)
    conv.layer, conv.pattern = "layer", pattern
    conv.kernel = STAGGERED_ROWS if pattern.staggered else EVENT_ROWS
    conv.linear_input = (c, 1, 1) if shape.size == 1 else None
    return conv


def spikes_of(conv: IntConv2d, x: Array) -> Array:
    """The reference: spikes [T, H, W, O] for spikes [T, H, W, C]."""
    state: tuple[torch.Tensor, ...] = ()
    spikes = []
    for frame in torch.from_numpy(x).float().permute(0, 3, 1, 2):
        current = conv(frame[None])
        out, state = step((current,), state or (torch.zeros_like(current),), NEURON)
        spikes.append(out[0].permute(1, 2, 0))
    return torch.stack(spikes).to(torch.uint8).numpy()


def measure(shape: Shape, density: float, cpu: str, rounds: int) -> dict[str, list[float]]:
    """Variant -> microseconds of each round."""
    c, size = shape.channels, shape.size
    rng = np.random.default_rng(1)
    inputs = [(rng.random((NUM_STEPS, size, size, c)) < density).astype(np.uint8) for _ in range(NUM_INPUTS)]
    runs: dict[str, Run] = {PEER: onnx_layer(c, c, size, shape.kernel, shape.padding, NUM_STEPS)}
    for text, weight_type in VARIANTS:
        conv = make_layer(shape, Pattern.parse(text), weight_type, density)
        with TemporaryDirectory() as scratch:
            layer = NativeLayer(conv, size, NUM_STEPS, next(k for k in CPUS if k.name == cpu), Path(scratch))
        words = [spike_words(x, layer.spikes) for x in inputs]
        layer.run(words, NUM_INPUTS)
        assert np.array_equal(layer.result(), spikes_of(conv, inputs[-1])), f"{text} {weight_type} is wrong"
        runs[f"{text} {weight_type}"] = partial(layer.run, words)
    calls = 2 * NUM_INPUTS * (1 if size > 1 else 16)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds + 1):
        for name, run in runs.items():
            microseconds = run(calls) / 1e3
            if turn:  # the first warms up
                times[name].append(microseconds)
    return times


def table_of(times: dict[str, list[float]], name: str, density: float) -> str:
    peer = times[PEER]
    rows = [
        (
            variant,
            f"{statistics.median(t):.1f}",
            f"{min(t):.1f}-{max(t):.1f}",
            f"{statistics.median(peer) / statistics.median(t):.1f}",
            f"{min(peer) / min(t):.1f}",
        )
        for variant, t in times.items()
    ]
    header = (f"{name}, {density:.0%} spikes", "median us", "spread", "× by median", "× by least")
    return format_table(header, rows)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--density", type=float, nargs="+", default=[10.0], help="per cent of inputs that spike")
    parser.add_argument("--layer", nargs="+", default=list(LAYERS), choices=list(LAYERS))
    parser.add_argument("--cpu", default=detect().name, choices=[cpu.name for cpu in CPUS])
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    for name in options.layer:
        for percent in options.density:
            times = measure(LAYERS[name], percent / 100, options.cpu, options.rounds)
            print(f"{table_of(times, name, percent / 100)}\n", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
