"""C libraries on their machines, real or emulated, against the lowered graph: every output and spike, bit for bit."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from edge_machines import Machine, machine, tool
from edge_networks import NETWORKS, PATTERN
from torch import Tensor
from torch.fx import GraphModule

from spikenm_compile.artifact.directory import read_artifact
from spikenm_compile.graph import PER_STEP, REGION, Region, result, run_steps, spike_nodes, the_input
from spikenm_compile.package import write_package
from spikenm_compile.runtime import load
from spikenm_compile.runtime.stream import EVENT
from spikenm_compile.targets import C_LIBRARIES, get_target
from spikenm_compile.targets.c_library import CLibrary
from spikenm_compile.verification import verify

Array = np.ndarray[Any, np.dtype[Any]]
HARNESS = Path(__file__).parent / "harness.c"


@dataclass(frozen=True)
class Results:
    """Outputs [B, ...] and spikes of the last layer [B, T, ...], one after the other; zeros without sign."""

    outputs: Array
    spikes: Array

    def __eq__(self, other: object) -> bool:
        assert isinstance(other, Results)
        assert self.outputs.size, "no output is compared"
        assert self.spikes.any(), "no spike is compared"
        same = np.array_equal(self.outputs, other.outputs, equal_nan=True)
        return same and np.array_equal(self.spikes, other.spikes)


@dataclass(frozen=True)
class Built:
    """A network built for a machine, and its test program."""

    network: str
    machine: Machine
    artifact: Path
    program: Path

    @property
    def lowered(self) -> GraphModule:
        return NETWORKS[self.network]()[0]

    @property
    def x(self) -> Tensor:
        return NETWORKS[self.network]()[1]

    @property
    def per_step(self) -> bool:
        return bool(the_input(self.lowered).meta[PER_STEP])

    def reference(self, x: Tensor) -> Results:
        with torch.no_grad():
            found = run_steps(self.lowered, x, None if self.per_step else self.lowered.meta["num_steps"])
        every_step = result(self.lowered).meta[REGION] is Region.STEP
        outputs = found.output.transpose(0, 1) if every_step else found.output
        spikes = found.spikes[list(spike_nodes(self.lowered))[-1]].transpose(0, 1)
        return Results(outputs.numpy().ravel(), spikes.numpy().astype(np.uint8).ravel())

    def results(self, *arguments: object, data: bytes) -> Results:
        done = self.machine.run(self.program, *arguments, data=data)
        assert done.returncode == 0, done.stderr.decode()
        return Results(np.frombuffer(done.stdout, np.float32), np.frombuffer(done.stderr, np.uint8))

    def drive(self, mode: str, x: Tensor) -> Results:
        """Feed [B, ...] or [T, B, ...] to a mode of the test program."""
        samples = x.transpose(0, 1) if self.per_step else x
        num_steps = x.shape[0] if self.per_step else self.lowered.meta["num_steps"]
        return self.results(mode, len(samples), num_steps, data=samples.contiguous().numpy().tobytes())


def build(network: str, target: str, directory: Path, **options: Any) -> Built:
    where = machine(target)
    chosen = get_target(target)
    assert isinstance(chosen, CLibrary)
    lowered, x = NETWORKS[network]()
    artifact, program = directory / "artifact", directory / "harness"
    directory.mkdir(exist_ok=True)
    write_package(lowered, replace(chosen, **options), artifact, name=network, pattern=PATTERN, samples=x)
    where.compile(artifact, HARNESS, program, "-std=gnu99", f"-DNAME={network}", f"-DBIG={network.upper()}")
    return Built(network, where, artifact, program)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Built]:
    """Each pair of network and target is built once."""

    @cache
    def make(network: str, target: str) -> Built:
        return build(network, target, tmp_path_factory.mktemp(f"{network}-{target}"))

    return make


Make = Callable[[str, str], Built]
EVERY_TARGET = [("digits", target) for target in C_LIBRARIES]
PAIRS = [
    *EVERY_TARGET,
    *((network, target) for network in ("gestures", "every_step") for target in ("x86-64-v3", "arm", "armv7-neon")),
    ("vgg11", "arm"),
]
LONG = [(n, t) for n in ("sew_resnet18", "vgg11") for t in C_LIBRARIES if (n, t) not in PAIRS]
LONG_PAIRS = [pytest.param(*pair, marks=pytest.mark.long) for pair in LONG]


@pytest.mark.parametrize(("network", "target"), [*PAIRS, *LONG_PAIRS])
def test_run_and_step_equal_the_lowered_graph(built: Make, network: str, target: str) -> None:
    it = built(network, target)
    expected = it.reference(it.x)
    assert it.drive("run", it.x) == expected
    assert it.drive("step", it.x) == expected


@pytest.mark.parametrize(("network", "target"), EVERY_TARGET)
def test_the_example_proves_the_test_vectors(built: Make, network: str, target: str, tmp_path: Path) -> None:
    it = built(network, target)
    it.machine.compile(it.artifact, it.artifact / "example_run.c", tmp_path / "example", "-std=c99", "-pedantic")
    done = it.machine.run(tmp_path / "example")
    assert done.returncode == 0, done.stdout.decode()
    *classes, verdict = done.stdout.decode().splitlines()
    assert verdict == "digits: equal to the reference bit for bit"
    best = it.reference(it.x[:2]).outputs.reshape(2, -1).argmax(1)
    assert classes == [f"vector {i}: class {k}" for i, k in enumerate(best)]


@pytest.mark.parametrize("target", ["x86-64-v3", "arm", "armv7-neon"])
def test_packed_spikes(built: Make, target: str) -> None:
    it = built("every_step", target)
    bits = np.packbits(it.x.transpose(0, 1).numpy().astype(bool), axis=-1, bitorder="little")
    assert it.results("packed", it.x.shape[1], len(it.x), data=bits.tobytes()) == it.reference(it.x)


@pytest.mark.parametrize("target", ["x86-64-v3", "arm", "armv7-neon"])
@pytest.mark.parametrize("network", ["gestures", "digits"])
def test_two_states_take_turns_on_one_arena(built: Make, network: str, target: str) -> None:
    it = built(network, target)
    assert it.drive("pair", it.x[:, :4] if it.per_step else it.x[:4]) == it.reference(
        it.x[:, :4] if it.per_step else it.x[:4]
    )


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


@pytest.mark.parametrize("target", ["x86-64-v3", "arm", "armv7-neon"])
@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_events_at_irregular_times_are_the_binned_input(built: Make, target: str, chunk: int) -> None:
    it, start, step_us = built("gestures", target), 2**40 + 3, 333
    counts = it.x[:, :1].clone()
    counts[2] = 0  # a window without events is a step too
    events = events_of(counts[:, 0].numpy(), start, step_us)
    found = it.results("events", start, step_us, chunk, data=events.tobytes())
    prefixes = [it.reference(counts[: t + 1]).outputs for t in range(len(counts))]
    assert found == Results(np.concatenate(prefixes), it.reference(counts).spikes)


@pytest.mark.parametrize("target", ["x86-64-v3", "arm", "armv7-neon"])
def test_what_is_refused(built: Make, target: str) -> None:
    it = built("digits", target)
    done = it.machine.run(it.program, "errors")
    assert done.returncode == 0, done.stderr.decode()
    lines = done.stdout.decode().splitlines()
    assert lines[1] == "-2 arena or state does not begin at a multiple of DIGITS_ALIGNMENT; align it"
    assert lines[8].startswith("-7 an event lies outside of the input; x < DIGITS_INPUT_WIDTH, y < ")
    assert all(";" in line for line in lines if line.startswith("-"))


@pytest.mark.parametrize("target", ["x86-64-v3", "arm", "armv7-neon"])
def test_the_guard_pages_guard(built: Make, target: str) -> None:
    it = built("digits", target)
    environment = {**os.environ, "HARNESS_SHORT": "64"}
    assert it.machine.run(it.program, "run", 0, 4).returncode == 0
    assert it.machine.run(it.program, "run", 0, 4, env=environment).returncode not in (0, 1, 3)


@pytest.mark.parametrize(
    ("target", "steps"),
    [("x86-64-v3", 20_000), ("arm", 500), pytest.param("x86-64-v3", 10**6, marks=pytest.mark.long)],
)
def test_memory_does_not_grow(built: Make, target: str, steps: int) -> None:
    it = built("digits", target)
    done = it.machine.run(it.program, "many", steps, data=it.x[0].numpy().tobytes())
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize(("target", "cpu"), [("cortex-a76", "cortex-a53"), ("armv7-neon", "cortex-a9,neon=off")])
def test_a_cpu_without_the_features_is_refused_by_name(built: Make, target: str, cpu: str) -> None:
    it = built("digits", target)
    done = machine(target, cpu).run(it.program, "run", 0, 4)
    assert done.returncode == 3
    lacks = ", ".join(it.machine.cpu.features)
    assert done.stderr.decode().startswith(f"-3 this CPU lacks {lacks}, which the library uses; build the network for")


@pytest.mark.parametrize("target", C_LIBRARIES)
def test_nothing_is_needed_but_memory_functions(built: Make, target: str) -> None:
    it = built("digits", target)
    listed = subprocess.run([tool("nm"), str(it.artifact / "libmodel.a")], capture_output=True, text=True, check=True)
    symbols = [line.split()[-2:] for line in listed.stdout.splitlines() if line and not line.endswith(":")]
    undefined = {name for kind, name in symbols if kind in "Uwv"}
    defined = {name for kind, name in symbols if kind not in "Uwv"}
    assert undefined - defined <= {"memcpy", "memset"}
    assert {name for kind, name in symbols if kind in "TRDBCWV" and not name.startswith("digits_")} == set()


@pytest.mark.parametrize("target", C_LIBRARIES)
def test_no_variable_can_change(built: Make, target: str) -> None:
    archive = built("digits", target).artifact / "libmodel.a"
    listed = subprocess.run([tool("size"), "-A", str(archive)], capture_output=True, text=True, check=True)
    sections = [line.split()[:2] for line in listed.stdout.splitlines() if line.startswith(".")]
    assert any(name == ".text" or name.startswith(".text.") for name, _ in sections)
    changing = [name for name, size in sections if int(size) and name.startswith((".data", ".bss"))]
    assert all(name.startswith(".data.rel.ro") for name in changing)


def test_all_layers_without_shared_memory(tmp_path: Path) -> None:
    """The same kernels on an arena without reuse, where every layer can be read."""
    it = build("gestures", "x86-64-v3", tmp_path, keep_spikes=True, max_steps=2)
    assert all(check.passed and check.compared for check in verify(it.artifact, {"given": it.x}))
    trace = load(it.artifact).trace(it.x.numpy())
    with torch.no_grad():
        expected = run_steps(it.lowered, it.x)
    assert list(trace.spikes) == list(spike_nodes(it.lowered))
    for layer, spikes in trace.spikes.items():
        assert np.array_equal(spikes, expected.spikes[layer].numpy()), layer


@pytest.mark.parametrize(
    "target", ["arm", *(pytest.param(t, marks=pytest.mark.long) for t in C_LIBRARIES if t != "arm")]
)
def test_a_large_library_is_little_more_than_its_weights(built: Make, target: str) -> None:
    it = built("vgg11", target)
    listed = subprocess.run([tool("size"), str(it.artifact / "libmodel.a")], capture_output=True, text=True, check=True)
    total = sum(int(line.split()[3]) for line in listed.stdout.splitlines()[1:])
    packed = sum(layer.bytes_packed for layer in read_artifact(it.artifact).manifest.layers)
    assert packed < total <= 1.1 * packed + 64 * 1024
