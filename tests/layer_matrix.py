"""Layers of every kind that a CPU kernel can meet: drawn at random, and few of them that between them cover all pairs.

Families, types of weights and CPUs come from the tables of the package, so that a new one is tested without a word
here.
"""

from __future__ import annotations

import itertools
import random
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields

import torch
from neuron_kinds import delayed_reset_per_channel, synaptic

from spikenm_compile.graph import run_steps
from spikenm_compile.neurons import Levels, Neuron, integrate_and_fire, leaky
from spikenm_compile.ops import SPIKES, IntConv2d, IntConvNeuron, NeuronStep
from spikenm_compile.passes.select_kernels import REFUSALS
from spikenm_compile.pattern import Pattern
from spikenm_compile.targets.native import Native
from spikenm_compile.tuning.one_layer import one_layer
from spikenm_compile.weight_types import WEIGHT_TYPES, WeightType

LEARNED = ("2:4", "1:4", "2:8", "1:8", "1:16")
SHARED = tuple(f"{v}:{pattern}" for v in (16, 64, 128, 256) for pattern in ("2:4", "1:8"))
PATTERNS = ("dense", *LEARNED, *(f"{pattern}@stagger" for pattern in LEARNED), *SHARED)
INPUTS = {"spikes": SPIKES, "counts": Levels(0, 3), "bytes": Levels(0, 255), "signed": Levels(-128, 127)}
NEURONS: dict[str, Callable[[int], Neuron] | None] = {
    "none": None,
    "leaky": lambda _: leaky(2.0, v_threshold=1.0, v_reset=-0.1),
    "sum": lambda _: integrate_and_fire(v_threshold=1.0, v_reset=None),
    "two states": synaptic,
    "constants": delayed_reset_per_channel,
}
CHANNELS, OUTPUTS = (1, 3, 17, 63, 64, 65, 100), (1, 3, 17, 63, 64, 65, 100, 128, 200, 256)
SIZES = ((1, 1), (2, 3), (4, 4), (5, 7), (8, 8), (13, 2), (16, 16), (33, 33))
AXES_OF_PATTERNS = ("family", "cpu", "weight_type", "inputs")
"""What patterns are paired with: they decide of little else."""
MOST_PRODUCTS = 4_000_000
"""Multiplications of one step that a case is allowed, so that emulators have done soon."""


@dataclass(frozen=True)
class Case:
    """A layer, what it reads, and how it is computed."""

    family: str
    pattern: str
    weight_type: WeightType
    inputs: str
    neuron: str
    channels: int
    outputs: int
    size: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: int
    groups: int
    is_linear: bool
    num_steps: int
    tile_width: int | None
    density: float
    """Of its input."""

    @property
    def seed(self) -> int:
        """The same in every process."""
        return zlib.crc32(repr(self).encode())

    def layer(self) -> IntConvNeuron | IntConv2d:
        """Random weights that hold the pattern; some of the outputs spike."""
        conv = self.conv()
        make = NEURONS[self.neuron]
        if make is None:
            return conv
        step = NeuronStep(make(self.outputs))
        step.layer = "neurons"
        return IntConvNeuron(conv, step)

    def conv(self) -> IntConv2d:
        """The weights."""
        generator = torch.Generator().manual_seed(self.seed)
        kernel = self.size if self.is_linear else self.kernel
        shape, levels = (self.outputs, self.channels // self.groups, *kernel), INPUTS[self.inputs]
        largest = WEIGHT_TYPES[self.weight_type]
        weight = torch.randint(-largest, largest + 1, shape, generator=generator, dtype=torch.int8)
        weight[0, 0, 0, 0] = largest
        stored = weight.flatten(1)[:, :, None, None] if self.is_linear else weight
        pattern = None if self.pattern == "dense" else Pattern.parse(self.pattern)
        if pattern is not None:
            scores = torch.rand(stored.shape, generator=generator)
            weight = (stored * pattern.magnitude_mask(scores).to(torch.int8)).view(shape)
        share = 1.0 if pattern is None else pattern.density
        active = max(1.0, self.density * share * weight[0].numel())
        spread = largest * 0.25 * max(abs(levels.low), levels.high) * active**0.5
        scale = (0.5 + torch.rand(self.outputs, generator=generator)) / spread
        conv = IntConv2d(
            weight,
            scale,
            torch.rand(self.outputs, generator=generator) * 0.2 - 0.1,
            levels=levels,
            stride=self.stride,
            padding=self.padding,
            dilation=(self.dilation, self.dilation),
            groups=self.groups,
        )
        conv.layer, conv.pattern, conv.density = "layer", pattern, self.density
        conv.linear_input = (self.channels, *self.size) if self.is_linear else None
        conv.kernel, conv.tile_width = self.family, self.tile_width
        return conv

    def levels(self, samples: int) -> torch.Tensor:
        """[T, samples, C, H, W] whole numbers, so many of them not zero."""
        generator = torch.Generator().manual_seed(self.seed + 1)
        low, high = INPUTS[self.inputs].low, INPUTS[self.inputs].high
        shape = (self.num_steps, samples, self.channels, *self.size)
        values = torch.randint(low, high + 1, shape, generator=generator).where(torch.tensor(high > 1), torch.tensor(1))
        return (values * (torch.rand(shape, generator=generator) < self.density)).float()


def spike_rate(case: Case) -> float:
    """Share of spikes that the layer gives for its inputs."""
    layer = case.layer()
    shape = (case.channels, *case.size)
    with torch.no_grad():
        return float(run_steps(one_layer(layer, shape, case.num_steps), case.levels(1)).output.mean())


def draw(rng: random.Random, family: str, pattern: str, weight_type: WeightType) -> Case | None:
    """A random layer; None where the pattern or the family does not take what was drawn."""
    size, kernel = rng.choice(SIZES), rng.choice(((1, 1), (3, 3), (3, 3), (3, 3), (5, 5), (3, 2), (1, 4)))
    is_linear = rng.random() < 0.15
    dilation = 1 if is_linear else rng.choice((1, 1, 1, 2))
    reach = [dilation * (k - 1) for k in kernel]
    group = 1 if pattern == "dense" else Pattern.parse(pattern).m
    channels = rng.choice(
        [c for c in (*CHANNELS, group, 2 * group, 5 * group, 9 * group) if c % group == 0 or is_linear]
    )
    groups = rng.choice((1, 1, 1, 1, channels, *(k for k in (2, 4) if channels % k == 0)))
    case = Case(
        family,
        pattern,
        weight_type,
        inputs=rng.choice(("spikes", "spikes", "spikes", *INPUTS)),
        neuron=rng.choice(("leaky", *NEURONS)),
        channels=channels,
        outputs=rng.choice(OUTPUTS),
        size=size,
        kernel=size if is_linear else kernel,
        stride=(1, 1) if is_linear else (rng.choice((1, 1, 2, 3)), rng.choice((1, 1, 2))),
        padding=(0, 0) if is_linear else (rng.choice((0, reach[0] // 2, reach[0])), rng.choice((0, reach[1] // 2))),
        dilation=dilation,
        groups=1 if is_linear else groups,
        is_linear=is_linear,
        num_steps=rng.choice((1, 3, 4, 7, 16)),
        tile_width=rng.choice((None, None, None, 8, 16, 32, 64, 128)),
        density=rng.choice((0.0, 0.02, 0.1, 0.3, 0.6, 1.0)),
    )
    return case if _is_possible(case, group) and REFUSALS[family](case.conv()) is None else None


def _is_possible(case: Case, group: int) -> bool:
    outs = [
        (s + 2 * p - case.dilation * (k - 1) - 1) // stride + 1
        for s, p, k, stride in zip(case.size, case.padding, case.kernel, case.stride, strict=True)
    ]
    grouped = case.channels // case.groups * (case.size[0] * case.size[1] if case.is_linear else 1)
    products = outs[0] * outs[1] * case.kernel[0] * case.kernel[1] * case.channels * case.outputs // case.groups
    fits = min(outs) >= 1 and case.outputs % case.groups == 0 and grouped % group == 0
    return fits and products * case.num_steps <= MOST_PRODUCTS * (1 if case.num_steps < 7 else 2)


def takable(draws: int, tries: int = 40, seed: int = 0) -> Iterator[Case]:
    """Layers of every family, pattern and type of weights that go together, `draws` of each."""
    rng = random.Random(seed)
    for family, pattern, weight_type in itertools.product(Native().families, PATTERNS, WEIGHT_TYPES):
        found = (draw(rng, family, pattern, weight_type) for _ in range(tries))
        yield from itertools.islice(filter(None, found), draws)


def cover(pool: Sequence[Case], cpus: Sequence[str]) -> list[tuple[Case, str]]:
    """A part of the pool, each with a CPU: all pairs of a family or CPU and a value of any axis, some of patterns.

    Greedy: of the layers left, the one with most pairs that were not covered yet.
    """
    pairs_of = {(case, cpu): _pairs(case, cpu) for case in pool for cpu in cpus}
    left, chosen = set().union(*pairs_of.values()), []
    while left:
        best = max(pairs_of, key=lambda each: len(pairs_of[each] & left))
        chosen.append(best)
        left -= pairs_of.pop(best)
    return chosen


def _pairs(case: Case, cpu: str) -> set[tuple[object, ...]]:
    axes: dict[str, object] = {field.name: getattr(case, field.name) for field in fields(case)} | {"cpu": cpu}
    wanted = [*itertools.product(("family", "cpu"), axes), *itertools.product(("pattern",), AXES_OF_PATTERNS)]
    return {(first, axes[first], second, axes[second]) for first, second in wanted if first != second}
