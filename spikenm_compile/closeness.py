"""Compare an artifact that computes in float32 with PyTorch: near, not equal.

Sums of floats depend on their order, so that a potential within rounding of its threshold may spike in one and not in
the other, and then everything behind it differs. Where an artifact shows its spikes, samples in which none differs must
agree closely, and few spikes may differ. Where it does not, half of the outputs must agree closely, and the others may
differ by as much as a few flipped spikes do: a mistake in a layer moves them all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from spikenm_compile.report.table import format_table
from spikenm_compile.runtime import Model

Array = npt.NDArray[Any]
CLOSE = 1e-4
"""Largest deviation of a sample without a flipped spike, as a share of the largest output."""
NEAR = 5e-2
"""Largest deviation where flipped spikes cannot be seen, as a share of the largest output."""
MOST_FLIPS = 1e-3
"""Largest share of spikes that may differ."""
MOSTLY = 0.5
"""Share of outputs that must be close where flipped spikes cannot be seen."""


@dataclass(frozen=True)
class Closeness:
    """How far a float32 artifact is from PyTorch, on one set of inputs."""

    inputs: str
    form: str
    """`step`: one time step after the other; `whole`."""
    samples: int
    flipped_samples: int
    """Samples in which a spike differs."""
    tolerance: float
    """Largest deviation of an output allowed in the other samples."""
    deviation: float
    """Largest deviation of an output in the other samples."""
    outputs: int
    """Outputs in the other samples that deviate more than allowed, and those by which too few are close."""
    spikes: int
    """Spikes and counts compared."""
    flipped: int
    """Spikes and counts that differ."""
    compared: int
    """Values compared in all."""

    @property
    def passed(self) -> bool:
        """Near enough."""
        return self.outputs == 0 and self.flipped <= MOST_FLIPS * self.spikes


def compare(name: str, model: Model, x: Array, output: Array, spikes: Mapping[str, Array]) -> Closeness:
    """Run the artifact on `x` and compare it with what PyTorch gave.

    Args:
        name: of the inputs.
        model: the artifact.
        x: inputs as the artifact takes them.
        output: of PyTorch.
        spikes: layer -> [T, B, ...] of PyTorch; empty for an artifact that shows none.
    """
    trace = model.trace(x)
    is_whole = model.manifest.code["kind"] == "onnx-whole"
    batch = x.shape[int(model.manifest.input.per_step)]
    differ = {layer: trace.spikes[layer] != expected for layer, expected in spikes.items()}
    flipped = np.zeros(batch, bool)
    for different in differ.values():
        flipped |= np.moveaxis(different, 1, 0).reshape(batch, -1).any(1)
    far = _deviation(trace.output, output)
    # a whole network shows no spikes, and its output may hold the samples anywhere
    far = far if is_whole else np.moveaxis(far, int(model.manifest.output.per_step), 0)[~flipped]
    largest = np.abs(output[np.isfinite(output)]).max(initial=np.finfo(np.float32).tiny)
    tolerance = (NEAR if is_whole else CLOSE) * float(largest)
    spike_slots = sum(different.size for different in differ.values())
    return Closeness(
        inputs=name,
        form="whole" if is_whole else "step",
        samples=batch,
        flipped_samples=int(flipped.sum()),
        tolerance=tolerance,
        deviation=float(far.max(initial=0.0)),
        outputs=int((far > tolerance).sum()) + (_too_few_close(far, CLOSE * float(largest)) if is_whole else 0),
        spikes=spike_slots,
        flipped=sum(int(different.sum()) for different in differ.values()),
        compared=output.size + spike_slots,
    )


def _too_few_close(far: Array, close: float) -> int:
    """How many more outputs would have to be close."""
    return max(0, int(np.ceil(MOSTLY * far.size)) - int((far <= close).sum()))


def _deviation(actual: Array, expected: Array) -> Array:
    """|actual - expected|, 0 where both are the same infinity or no number, infinite where the shapes differ."""
    if actual.shape != expected.shape:
        return np.full(expected.shape, np.inf)
    same = (actual == expected) | ((actual != actual) & (expected != expected))
    with np.errstate(invalid="ignore"):
        far = np.abs(actual.astype(np.float64) - expected)
    return np.where(same, 0.0, np.where(np.isnan(far), np.inf, far))


def format_closeness(checks: list[Closeness]) -> str:
    """A table, and the verdict."""
    header = ("inputs", "form", "samples", "largest deviation", "allowed", "spikes compared", "spikes ≠", "in samples")
    rows = [(c.inputs, c.form, c.samples, f"{c.deviation:.3g}", f"{c.tolerance:.3g}", *_spikes(c)) for c in checks]
    tolerance = max(c.tolerance for c in checks)
    near = f"float32: compared with PyTorch within {tolerance:.3g}, not bit for bit"
    far = f"float32: FARTHER from PyTorch than {tolerance:.3g}"
    return f"{format_table(header, rows)}\n{near if all(c.passed for c in checks) else far}"


def _spikes(check: Closeness) -> tuple[object, object, object]:
    if check.form == "whole":
        return "not shown", "", ""
    return check.spikes, check.flipped, check.flipped_samples
