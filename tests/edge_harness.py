"""Networks behind the functions of model.h, driven by harness.c, against the lowered graph."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from c_networks import HOST, SANITIZED
from edge_machines import Machine, machine, run_program
from edge_networks import NETWORKS, PATTERN
from torch import Tensor
from torch.fx import GraphModule

from spikenm_compile.artifact.directory import read_artifact
from spikenm_compile.graph import PER_STEP, REGION, Region, result, run_steps, spike_nodes, the_input
from spikenm_compile.package import write_package
from spikenm_compile.runtime.stream import EVENT
from spikenm_compile.targets import get_target
from spikenm_compile.targets.c_library import CLibrary
from spikenm_compile.targets.portable_c import SOURCES

Array = np.ndarray[Any, np.dtype[Any]]
HARNESS = Path(__file__).parent / "edge" / "harness.c"


@dataclass(frozen=True)
class Results:
    """Outputs [B, ...] and spikes of the last layer [B, T, ...], one after the other; zeros without sign."""

    outputs: Array
    spikes: Array

    def __eq__(self, other: object) -> bool:
        assert isinstance(other, Results)
        assert self.outputs.size, "no output is compared"
        same = np.array_equal(self.outputs, other.outputs, equal_nan=True)
        return same and np.array_equal(self.spikes, other.spikes)


@dataclass(frozen=True)
class Built:
    """A network, and the command that runs its test program."""

    network: str
    artifact: Path
    command: tuple[str | Path, ...]

    @property
    def lowered(self) -> GraphModule:
        return NETWORKS[self.network]()[0]

    @property
    def x(self) -> Tensor:
        return NETWORKS[self.network]()[1]

    @property
    def per_step(self) -> bool:
        return bool(the_input(self.lowered).meta[PER_STEP])

    @property
    def every_step(self) -> bool:
        """Whether there is an output at each step."""
        return result(self.lowered).meta[REGION] is Region.STEP

    def kept(self, num_steps: int) -> int:
        """Of how many steps, the last, spikes can be read after a call that runs `num_steps`."""
        max_steps = read_artifact(self.artifact).manifest.code["max_steps"]
        assert isinstance(max_steps, int)
        return (num_steps - 1) % max_steps + 1

    def reference(self, x: Tensor, num_steps: int | None = None, *, after_run: bool = False) -> Results:
        """What a sequence gives; spikes of all steps, or of those that can be read after `run`."""
        steps = x.shape[0] if self.per_step else num_steps or self.lowered.meta["num_steps"]
        with torch.no_grad():
            found = run_steps(self.lowered, x, None if self.per_step else steps)
        outputs = found.output.transpose(0, 1) if self.every_step else found.output
        spikes = found.spikes[list(spike_nodes(self.lowered))[-1]].transpose(0, 1)
        spikes = spikes[:, -self.kept(steps) :] if after_run else spikes
        return Results(outputs.numpy().ravel(), spikes.numpy().astype(np.uint8).ravel())

    def results(self, *arguments: object, data: bytes) -> Results:
        done = run_program(self.command, *arguments, data=data)
        assert done.returncode == 0, done.stderr.decode()
        return Results(np.frombuffer(done.stdout, np.float32), np.frombuffer(done.stderr, np.uint8))

    def drive(self, mode: str, x: Tensor) -> Results:
        """Feed [B, ...] or [T, B, ...] to a mode of the test program."""
        samples = x.transpose(0, 1) if self.per_step else x
        num_steps = x.shape[0] if self.per_step else self.lowered.meta["num_steps"]
        return self.results(mode, len(samples), num_steps, data=samples.contiguous().numpy().tobytes())


@dataclass(frozen=True)
class BuiltLibrary(Built):
    """A network built for a machine."""

    machine: Machine
    program: Path


def build_library(network: str, target: str, directory: Path, **options: Any) -> BuiltLibrary:
    """Compiled by LLVM for a machine, which is emulated where it is another."""
    where = machine(target)
    chosen = get_target(target)
    assert isinstance(chosen, CLibrary)
    lowered, x = NETWORKS[network]()
    artifact, program = directory / "artifact", directory / "harness"
    directory.mkdir(exist_ok=True)
    write_package(lowered, replace(chosen, **options), artifact, name=network, pattern=PATTERN, samples=x)
    where.compile(artifact, HARNESS, program, *_names(network))
    return BuiltLibrary(network, artifact, (*where.runner, program), where, program)


def build_sources(network: str, target: str, directory: Path) -> Built:
    """Compiled by this machine's compiler, with sanitizers."""
    lowered, x = NETWORKS[network]()
    artifact, program = directory / "artifact", directory / "harness"
    write_package(lowered, get_target(target), artifact, name=network, pattern=PATTERN, samples=x)
    sources = [str(HARNESS), *(str(artifact / source) for source in SOURCES)]
    subprocess.run([*HOST, *_names(network), *SANITIZED, f"-I{artifact}", *sources, "-o", str(program)], check=True)
    return Built(network, artifact, (program,))


def _names(network: str) -> tuple[str, ...]:
    return "-std=gnu99", f"-DNAME={network}", f"-DBIG={network.upper()}"


def check_sequences(it: Built) -> None:
    """`run` and `step` give what the reference gives."""
    assert it.reference(it.x).spikes.any(), "no spike is compared"
    assert it.drive("run", it.x) == it.reference(it.x, after_run=True)
    assert it.drive("step", it.x) == it.reference(it.x)


def check_events(it: Built, chunk: int) -> None:
    """Events of one sample at irregular times, `chunk` at a time, give what their counts give as frames."""
    start, step_us = 2**40 + 3, 333
    counts = torch.poisson(it.x[:, :1] if it.per_step else it.x[:1], generator=torch.Generator().manual_seed(0))
    if it.per_step:
        counts[2] = 0  # a window without events is a step too
    num_steps = len(counts) if it.per_step else it.lowered.meta["num_steps"]
    frames = counts[:, 0] if it.per_step else counts[0].expand(num_steps, *counts.shape[1:])
    events = events_of(frames.reshape(num_steps, *as_image(frames.shape[1:])).numpy(), start, step_us)
    found = it.results("events", start, step_us, chunk, data=events.tobytes())
    expected = it.reference(counts)
    assert expected.spikes.any(), "no spike is compared"
    if not it.every_step:
        prefixes = [it.reference(counts[: t + 1] if it.per_step else counts, t + 1) for t in range(num_steps)]
        expected = replace(expected, outputs=np.concatenate([prefix.outputs for prefix in prefixes]))
    assert found == expected


def as_image(shape: Sequence[int]) -> tuple[int, ...]:
    """[C, H, W] of an input [C] or [C, H, W]."""
    return (*shape, 1, 1)[:3]


def events_of(counts: Array, start: int, step_us: int, seed: int = 0) -> Array:
    """Events that are counted as `counts` [T, C, H, W]: at random times of their windows, there in any order."""
    rng = np.random.default_rng(seed)
    windows = []
    for t, frame in enumerate(counts.astype(int)):
        c, y, x = (np.repeat(index, frame[frame > 0]) for index in np.nonzero(frame))
        window = np.empty(len(c), EVENT)
        window["x"], window["y"], window["channel"] = x, y, c
        window["t"] = start + step_us * t + rng.integers(0, step_us, len(c))
        windows.append(rng.permutation(window))
    return np.concatenate(windows)
