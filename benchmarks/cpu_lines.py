"""Time against density, N/M, T and width: straight lines, fitted by least squares."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from benchmarks.cpu_driver import NativeCall
from benchmarks.cpu_native import TimedLayer
from benchmarks.cpu_results import Row
from benchmarks.cpu_timing import Given, Levels, Plan, random_spikes, take_turns
from benchmarks.cpu_workloads import DENSITY, LAYERS, NUM_STEPS, Shape, Variant, make_layer
from spikenm_compile.passes.select_kernels import EVENT_ROWS, STAGGERED_ROWS
from spikenm_compile.pattern import Pattern
from spikenm_compile.targets.cpu import Cpu

DENSE = "16:16"
"""All weights: no pattern."""


@dataclass(frozen=True)
class Point:
    """A layer to time at one place of an axis."""

    shape: Shape
    variant: Variant
    density: float = DENSITY
    num_steps: int = NUM_STEPS

    @property
    def family(self) -> str:
        """Kernels made for the pattern."""
        return STAGGERED_ROWS if "@" in self.variant.pattern else EVENT_ROWS


STEADY = (Variant("2:4", "int8"), Variant("2:4", "int4"), Variant("1:4@stagger", "int8"))
_SQUARE, _WIDE, _DEEP = LAYERS["c128@16"], LAYERS["c256@8"], LAYERS["c512@4"]
_SHARES = {16: DENSE} | {n: f"{n}:16@stagger" for n in (8, 4, 2, 1)}

AXES: dict[str, dict[float, dict[str, Point]]] = {
    "density": {
        x: {str(v): Point(_SQUARE, v, density=x) for v in STEADY} for x in (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
    },
    "N/M": {
        n / 16: {f"N:16@stagger {w}": Point(_DEEP, Variant(p, w)) for w in ("int8", "int7")} for n, p in _SHARES.items()
    },
    "T": {float(t): {str(v): Point(_SQUARE, v, num_steps=t) for v in STEADY} for t in (1, 2, 4, 8, 16)},
    "outputs": {float(o): {str(v): Point(replace(_WIDE, outputs=o), v) for v in STEADY} for o in range(64, 513, 64)},
}
"""Axis -> place on it -> line -> what is timed there."""


@dataclass(frozen=True)
class Fit:
    """y = slope · x + intercept."""

    slope: float
    intercept: float
    r2: float
    """Share of the variance that the line explains."""

    @classmethod
    def of(cls, x: Sequence[float], y: Sequence[float]) -> Fit:
        """The line of least squares through two points or more."""
        slope, intercept = (float(c) for c in np.polyfit(x, y, 1))
        values = np.asarray(y)
        rest = values - (slope * np.asarray(x) + intercept)
        spread = float(((values - values.mean()) ** 2).sum())
        return cls(slope, intercept, 1 - float((rest**2).sum()) / spread if spread else 1.0)


def measure_axis(axis: str, cpu: Cpu, rounds: int) -> Iterator[Row]:
    """Rows of one axis."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    for x, points in AXES[axis].items():
        first = next(iter(points.values()))
        example = random_spikes(first.shape.input, first.num_steps, first.density, rng)
        runners = {name: [_compile(point, cpu, example)] for name, point in points.items()}

        def draw(point: Point = first) -> Sequence[Given]:
            return [Given(random_spikes(point.shape.input, point.num_steps, point.density, rng))]

        for name, times in take_turns(runners, draw, Plan(rounds, 4, 8)).items():
            yield Row(axis, x, name, points[name].family, False, times)


def _compile(point: Point, cpu: Cpu, example: Levels) -> NativeCall:
    pattern = None if point.variant.pattern == DENSE else Pattern.parse(point.variant.pattern)
    layer = make_layer(point.shape, pattern, point.variant.weight_type, point.density)
    timed = TimedLayer(layer, point.shape.input, point.num_steps)
    return timed.compile(timed.with_family(point.family), cpu, example)


def fits_of(rows: Sequence[Row]) -> dict[tuple[str, str], Fit]:
    """Axis and line -> fit of the medians."""
    lines: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in rows:
        lines.setdefault((row.place, row.what), []).append((row.x, row.times.median))
    return {key: Fit.of(*zip(*points, strict=True)) for key, points in lines.items() if len(points) > 1}
