"""C libraries on their machines, real or emulated, against the lowered graph: every output and spike, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from edge_machines import Machine, machine
from edge_networks import NETWORKS, PATTERN
from torch import Tensor
from torch.fx import GraphModule

from spikenm_compile.graph import PER_STEP, REGION, Region, result, run_steps, spike_nodes, the_input
from spikenm_compile.package import write_package
from spikenm_compile.targets import C_LIBRARIES, get_target
from spikenm_compile.targets.c_library import CLibrary

Array = np.ndarray[Any, np.dtype[Any]]
HARNESS = Path(__file__).parent / "harness.c"
EVENT = np.dtype([("t", "<u8"), ("x", "<u2"), ("y", "<u2"), ("channel", "<u2")], align=True)


@dataclass(frozen=True)
class Results:
    """Outputs [B, ...] and spikes of the last layer [B, T, ...], one after the other; zeros without sign."""

    outputs: Array
    spikes: Array

    def __eq__(self, other: object) -> bool:
        assert isinstance(other, Results)
        assert self.outputs.size and self.spikes.any(), "nothing is compared"
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
    ("sew_resnet18", "cortex-a53"),
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
    assert done.stdout.decode().endswith("digits: equal to the reference bit for bit\n")
