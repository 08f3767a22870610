"""The coefficients of costs.cpu_costs for a CPU: layers are measured, amounts fitted, and choices compared.

    python -m benchmarks.cpu_costs --cpu x86-64-v4 --cases 60 --times out/costs.jsonl

Cases are drawn at random. Of each, every kernel family at several tile widths is timed in turns. Two thirds of the
cases are fitted, by non-negative least squares of relative errors; a choice is judged on the others.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import nnls

from benchmarks.cpu_workloads import NUM_STEPS, WEIGHT_TYPES, Shape, make_layer
from spikenm_compile.costs.amounts import DENSE_ROWS, LOOKUP_TABLES, Amounts, Caches, amounts_of
from spikenm_compile.costs.cpu_costs import CpuCosts, values
from spikenm_compile.costs.layer_call import LayerCall
from spikenm_compile.layer_calls import layer_call, layer_nodes
from spikenm_compile.passes.select_kernels import REFUSALS
from spikenm_compile.pattern import Pattern
from spikenm_compile.targets.cpu import CPUS, Cpu, detect
from spikenm_compile.targets.native import Native
from spikenm_compile.tuning.measure import OnInputs
from spikenm_compile.tuning.native_layer import NativeLayer
from spikenm_compile.tuning.one_layer import one_layer
from spikenm_compile.tuning.stopwatch import least_times

NUM_INPUTS = 4
PATTERNS = ("2:4", "2:4@stagger", "1:4@stagger", "1:8@stagger", "64:2:4", "128:1:8")
DENSITIES = (0.02, 0.05, 0.1, 0.2, 0.4)
WIDTHS = (32, 64, 128)
OF_ONE_WIDTH = (LOOKUP_TABLES, DENSE_ROWS)
"""Families that are measured at one tile width."""
NEAR = 1.1
"""A choice is good that takes at most so many times the best."""


SHAPES = (
    Shape(64, 64, 32),
    Shape(64, 128, 16),
    Shape(128, 128, 16),
    Shape(256, 256, 8),
    Shape(512, 512, 4),
    Shape(128, 256, 8, stride=2),
    Shape(16, 32, 8),
    Shape(128, 64, 16, kernel=1),
    Shape(1024, 1024, 1, kernel=1, is_linear=True),
    Shape(64, 128, 4, kernel=4, is_linear=True),
)


@dataclass(frozen=True)
class TimedKernel:
    """A family at a tile width, and its measured microseconds."""

    family: str
    tile_width: int
    microseconds: float


@dataclass(frozen=True)
class Case:
    """A layer with its kernels."""

    call: LayerCall
    kernels: tuple[TimedKernel, ...]


def measure(shape: Shape, pattern: Pattern, weight_type: str, density: float, cpu: Cpu) -> Case:
    """Time the kernels of one layer."""
    layer = make_layer(shape, pattern, weight_type, density)
    size = shape.input
    spikes = [(torch.rand(NUM_STEPS, *size) < density).to(torch.int16).numpy() for _ in range(NUM_INPUTS)]
    layer.conv.density = float(np.mean(spikes))
    families = [family for family in Native().families if REFUSALS[family](layer.conv) is None]
    widest = [w for w in WIDTHS if w <= shape.outputs] or [WIDTHS[0]]
    kinds = [(f, width) for f in families for width in ((cpu.tile_width,) if f in OF_ONE_WIDTH else widest)]
    timed = []
    for layer.conv.kernel, layer.conv.tile_width in kinds:
        timed.append(OnInputs(NativeLayer(one_layer(layer, size, NUM_STEPS), cpu), spikes))
    times = least_times(timed, NUM_INPUTS)
    lowered = one_layer(layer, size, NUM_STEPS)
    (call,) = (layer_call(lowered, node, conv) for node, conv in layer_nodes(lowered))
    assert call is not None
    return Case(call, tuple(TimedKernel(*kind, time) for kind, time in zip(kinds, times, strict=True)))


def fit(cases: Sequence[Case], caches: Caches) -> Amounts:
    """Coefficients in nanoseconds that have the least relative errors."""
    measured = [(amounts_of(c.call, k.family, k.tile_width, caches), k.microseconds) for c in cases for k in c.kernels]
    times = 1000 * np.array([time for _, time in measured])
    rows = np.array([values(amounts) for amounts, _ in measured]) / times[:, None]
    scale = rows.max(0) + 1e-30
    found, _ = nnls(rows / scale, np.ones(len(rows)))
    return Amounts(*(float(f"{x:.3g}") for x in found / scale))


def judge(cases: Sequence[Case], costs: CpuCosts) -> str:
    """How often the predicted choice is near the best measured, and how far predictions are off."""
    errors, families, widths = [], [], []
    for case in cases:
        predicted = [costs.microseconds(case.call, k.family, k.tile_width) for k in case.kernels]
        actual = [k.microseconds for k in case.kernels]
        errors += [abs(np.log(p / a)) for p, a in zip(predicted, actual, strict=True)]
        widths.append(actual[int(np.argmin(predicted))] / min(actual))
        width = min(costs.tile_width, case.call.outputs)
        usual = [i for i, k in enumerate(case.kernels) if k.family in OF_ONE_WIDTH or k.tile_width == width]
        chosen = min(usual, key=lambda i: predicted[i])
        families.append(actual[chosen] / min(actual[i] for i in usual))
    off = np.exp(np.quantile(errors, (0.5, 0.9)))
    return (
        f"{len(cases)} layers; off by a factor of {off[0]:.2f} (median), {off[1]:.2f} (9 of 10); within "
        f"{NEAR - 1:.0%} of the best: {np.mean(np.array(families) <= NEAR):.0%} of families at the usual width "
        f"(worst {max(families):.2f}x), {np.mean(np.array(widths) <= NEAR):.0%} of families and widths "
        f"(worst {max(widths):.2f}x)"
    )


def read_cases(path: Path) -> list[Case]:
    """Cases that were measured before."""
    cases = []
    for line in path.read_text().splitlines() if path.exists() else ():
        record = json.loads(line)
        call = record["call"]
        call |= {key: tuple(v) for key, v in call.items() if isinstance(v, list)}
        call["pattern"] = Pattern.parse(record["pattern"])
        cases.append(Case(LayerCall(**call), tuple(TimedKernel(**k) for k in record["kernels"])))
    return cases


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is missing, fit, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpu", default=detect().name, choices=[cpu.name for cpu in CPUS])
    parser.add_argument("--cases", type=int, default=60)
    parser.add_argument("--times", type=Path, default=Path("out/costs.jsonl"), help="measured before, and added to")
    options = parser.parse_args(arguments)
    if options.cases < 3:
        parser.error("two cases are needed to fit and one to judge: give --cases 3 or more")
    cpu = next(c for c in CPUS if c.name == options.cpu)
    cases, draw = read_cases(options.times), random.Random(0)
    options.times.parent.mkdir(parents=True, exist_ok=True)
    for number in range(options.cases):
        shape, pattern = draw.choice(SHAPES), Pattern.parse(draw.choice(PATTERNS))
        pattern = replace(pattern, v=min(pattern.v, shape.outputs))
        about, density = (shape, pattern, draw.choice(WEIGHT_TYPES)), draw.choice(DENSITIES)
        if number < len(cases):
            continue
        torch.manual_seed(number)
        case = measure(*about, density, cpu)
        cases.append(case)
        with options.times.open("a") as file:
            file.write(json.dumps(asdict(case) | {"pattern": str(case.call.pattern)}) + "\n")
    caches = Caches(cpu.l1_bytes, cpu.l2_bytes)
    held_out = cases[::3]
    fitted = [case for i, case in enumerate(cases) if i % 3]
    nanoseconds = fit(fitted, caches)
    print(nanoseconds)
    print("fitted:", judge(fitted, CpuCosts(cpu.tile_width, caches, nanoseconds)))
    print("held out:", judge(held_out, CpuCosts(cpu.tile_width, caches, nanoseconds)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
