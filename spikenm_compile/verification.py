"""Prove an artifact: its code against the lowered graph bit for bit, and the lowered graph against the float model.

The reference is rebuilt from the artifact's own weights and graph and computed by PyTorch. Compared are the output,
the spikes of every layer at every step and the final state, in both forms: the whole sequence, and step by step
(CUDA code takes whole sequences only, and shows the states that it keeps in memory).
Layers of a C library share memory: of their spikes, those of the last can be read. C sources are compiled for this
machine first. Counts and real numbers that a layer emits are not recorded by artifacts: its states and its readers are
compared. Numbers are compared by value; only the sign of a zero may differ.

An artifact that computes in float32 carries no reference but its test vectors, and is near them (closeness).
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.fx import GraphModule

from spikenm_compile.artifact.directory import Artifact, read_artifact
from spikenm_compile.artifact.manifest import FLOAT32
from spikenm_compile.artifact.tensors import read_tensors
from spikenm_compile.closeness import Closeness, compare, format_closeness
from spikenm_compile.errors import InputError
from spikenm_compile.graph import PER_STEP, REGION, SHAPE, Region, StepResult, result, run_steps, the_input
from spikenm_compile.ops import Levels, QuantizeInput
from spikenm_compile.package import VECTORS_NAME, read_lowered
from spikenm_compile.report.table import format_table
from spikenm_compile.runtime import Model, load
from spikenm_compile.runtime.c_library import CLibraryModel
from spikenm_compile.targets.portable_c import SOURCES, compile_for_host

Array = np.ndarray[tuple[int, ...], np.dtype[np.float32]]
NUM_FRESH = 32
BATCH = 64
"""Samples that the reference computes at a time."""


@dataclass(frozen=True)
class Check:
    """Values compared and found different, of one form of the artifact on one set of inputs."""

    inputs: str
    form: str
    """`sequence` or `step`."""
    samples: int
    outputs: int
    """Outputs that differ."""
    spikes: int
    """Spikes that differ."""
    states: int
    """State values that differ."""
    compared: int
    """Values compared in all."""
    closeness: Closeness | None = None
    """How near an artifact is that computes in float32; None: nothing may differ."""

    @property
    def passed(self) -> bool:
        """Nothing differs, or what may differ is near enough."""
        return self.closeness.passed if self.closeness is not None else self.outputs == self.spikes == self.states == 0


@dataclass(frozen=True)
class Flips:
    """Lowered graph against float model: what quantisation and batch norm folding changed."""

    layer: str
    spikes: int
    flipped: int

    @property
    def share(self) -> float:
        """Share of the layer's spike slots that flipped."""
        return self.flipped / self.spikes


def verify(path: str | Path, inputs: Mapping[str, Tensor] | None = None, *, seed: int = 0) -> list[Check]:
    """Check an artifact on its test vectors, on fresh random inputs, and on given ones.

    One that computes in float32 carries no reference to compute other inputs with: its test vectors only.

    Args:
        path: the artifact.
        inputs: name -> more inputs: [B, ...], or [T, B, ...] where the input changes with time.
        seed: of the fresh inputs.

    Raises:
        ArtifactError: a file is missing or altered.
        ToolError, TargetError: this machine cannot run the artifact.
        InputError: further inputs for an artifact that computes in float32.
    """
    artifact = read_artifact(Path(path))
    vectors = read_tensors(artifact.path / VECTORS_NAME)
    if artifact.manifest.arithmetic == FLOAT32:
        if inputs:
            raise InputError(
                f"'{path}' computes in float32 and carries no reference for other inputs; its test vectors are "
                "compared; leave inputs out, or verify it against its model"
            )
        near = compare("test vectors", load(path), vectors["input"], vectors["output"], _spikes_of(vectors))
        return [check_nearness(near)]
    model, lowered = _open(artifact), read_lowered(artifact)
    checks = [_check_vectors(model, vectors)]
    fresh = {"fresh": fresh_inputs(lowered, model.manifest.num_steps, seed)}
    for name, values in {**fresh, **(inputs or {})}.items():
        checks.append(_check_sequence(name, model, lowered, values))
        if not model.manifest.is_whole:
            checks.append(_check_steps(name, model, lowered, values))
    return checks


def check_nearness(near: Closeness) -> Check:
    """The check of an artifact that computes in float32; its states are not compared."""
    return Check(near.inputs, near.form, near.samples, near.outputs, near.flipped, 0, near.compared, near)


def _open(artifact: Artifact) -> Model:
    """The artifact as a model; sources are compiled for this machine first."""
    code = artifact.manifest.code
    if code["kind"] != "c_sources":
        return load(artifact.path)
    with tempfile.TemporaryDirectory(prefix="spikenm-") as scratch:
        library = compile_for_host([artifact.path / name for name in SOURCES], str(code["symbol"]), Path(scratch))
        return CLibraryModel(artifact, library=library)


def fresh_inputs(lowered: GraphModule, num_steps: int, seed: int) -> Tensor:
    """Random inputs, on and off the quantiser's grid and somewhat outside of its range."""
    source = the_input(lowered)
    levels = next((m.levels for m in lowered.modules() if isinstance(m, QuantizeInput)), Levels(-1, 1))
    generator = torch.Generator().manual_seed(seed)
    leading = (num_steps, NUM_FRESH) if source.meta[PER_STEP] else (NUM_FRESH,)
    low, high = levels.low * levels.scale, levels.high * levels.scale
    x = (torch.rand((*leading, *source.meta[SHAPE]), generator=generator) * 1.2 - 0.1) * (high - low) + low
    on_grid, off_grid = torch.chunk(x, 2, dim=len(leading) - 1)
    return torch.cat([torch.round(on_grid / levels.scale) * levels.scale, off_grid], dim=len(leading) - 1)


def reference(lowered: GraphModule, x: Tensor, num_steps: int) -> StepResult:
    """The lowered graph's result, computed in batches."""
    per_step = the_input(lowered).meta[PER_STEP]
    with torch.no_grad():
        parts = [
            run_steps(lowered, part, None if per_step else num_steps) for part in torch.split(x, BATCH, int(per_step))
        ]
    is_sequence = result(lowered).meta[REGION] is Region.STEP
    return StepResult(
        torch.cat([p.output for p in parts], int(is_sequence)),
        {name: torch.cat([p.states[name] for p in parts]) for name in parts[0].states},
        {name: torch.cat([p.spikes[name] for p in parts], 1) for name in parts[0].spikes},
    )


def compare_with_float(lowered: GraphModule, step_graph: GraphModule, x: Tensor, num_steps: int) -> list[Flips]:
    """Spikes of the lowered graph that differ from the float model's, layer by layer.

    `step_graph` is the lifted model (compiler.lift_model). A flip early in the network makes more behind it.
    """
    expected, actual = reference(step_graph, x, num_steps).spikes, reference(lowered, x, num_steps).spikes
    flips = []
    for layer, spikes in expected.items():
        differ = spikes.flatten() != actual[layer].flatten()
        flips.append(Flips(layer, spikes.numel(), int(differ.sum())))
    return flips


def format_checks(checks: list[Check]) -> str:
    """A table, and the verdict."""
    near = [c.closeness for c in checks if c.closeness is not None]
    if near:
        return format_closeness(near)
    header = ("inputs", "form", "samples", "values compared", "outputs ≠", "spikes ≠", "states ≠")
    rows = [(c.inputs, c.form, c.samples, c.compared, c.outputs, c.spikes, c.states) for c in checks]
    passed = all(c.passed for c in checks)
    verdict = "equal bit for bit to the lowered graph" if passed else "NOT equal to the lowered graph"
    return f"{format_table(header, rows)}\n{verdict}"


def format_flips(flips: list[Flips]) -> str:
    """A table of flipped spikes by layer."""
    rows = [(f.layer, f.spikes, f.flipped, f"{f.share:.3%}") for f in flips]
    return format_table(("layer", "spike slots", "flipped", "share"), rows)


def _check_vectors(model: Model, vectors: dict[str, Array]) -> Check:
    x = vectors["input"]
    trace = model.trace(x)
    pairs = [(spikes, vectors[f"spikes.{layer}"]) for layer, spikes in trace.spikes.items()]
    spikes, compared = _count(pairs)
    outputs, more = _count([(trace.output, vectors["output"])])
    samples = x.shape[int(model.manifest.input.per_step)]
    return Check("test vectors", "sequence", samples, outputs, spikes, 0, compared + more)


def _spikes_of(vectors: Mapping[str, Array]) -> dict[str, Array]:
    """Layer -> its spikes in the test vectors."""
    return {name.removeprefix("spikes."): a for name, a in vectors.items() if name.startswith("spikes.")}


def _check_sequence(name: str, model: Model, lowered: GraphModule, x: Tensor) -> Check:
    num_steps = _num_steps(model, x)
    expected, trace = reference(lowered, x, num_steps), model.trace(x.numpy(), num_steps)
    outputs, n1 = _count([(trace.output, expected.output.numpy())])
    spikes, n2 = _count([(spikes, expected.spikes[layer].numpy()) for layer, spikes in trace.spikes.items()])
    shown = expected.states if model.manifest.code["kind"] != "cuda" else expected.states.keys() & trace.states.keys()
    states, n3 = _count([(_as_reference(model, trace.states[k]), expected.states[k].numpy()) for k in shown])
    return Check(name, "sequence", _batch(model, x), outputs, spikes, states, n1 + n2 + n3)


def _check_steps(name: str, model: Model, lowered: GraphModule, x: Tensor) -> Check:
    """Step by step: the state after each step, and the output after the last."""
    num_steps, per_step = _num_steps(model, x), model.manifest.input.per_step
    state, states = model.initial_state(_batch(model, x)), None
    differ = compared = 0
    outputs = []
    for t in range(num_steps):
        x_t = x[t] if per_step else x
        output, state = model.step(x_t.numpy(), state)
        outputs.append(output)
        with torch.no_grad():
            states = run_steps(lowered, x[t : t + 1] if per_step else x, None if per_step else 1, states).states
        wrong, count = _count([(_as_reference(model, state.values[k]), v.numpy()) for k, v in states.items()])
        differ, compared = differ + wrong, compared + count
    actual = np.stack(outputs) if model.manifest.output.per_step else outputs[-1]
    wrong, count = _count([(actual, reference(lowered, x, num_steps).output.numpy())])
    return Check(name, "step", _batch(model, x), wrong, 0, differ, compared + count)


def _num_steps(model: Model, x: Tensor) -> int:
    return x.shape[0] if model.manifest.input.per_step else model.manifest.num_steps


def _batch(model: Model, x: Tensor) -> int:
    return x.shape[int(model.manifest.input.per_step)]


def _as_reference(model: Model, state: Array) -> Array:
    """Native states have the channel last."""
    return state.transpose(0, 3, 1, 2) if model.manifest.code["kind"] != "onnx" else state


def _count(pairs: list[tuple[Array, Array]]) -> tuple[int, int]:
    """(values that differ, values compared); a wrong shape is an error of ours. NaN equals NaN."""
    differ = compared = 0
    for actual, expected in pairs:
        assert actual.shape == expected.shape, f"{actual.shape} is not {expected.shape}"
        same = (actual == expected) | ((actual != actual) & (expected != expected))
        differ, compared = differ + int((~same).sum()), compared + expected.size
    return differ, compared
