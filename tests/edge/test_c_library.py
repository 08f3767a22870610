"""C libraries on their machines, real or emulated, against the lowered graph: every output and spike, bit for bit."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from edge_harness import BuiltLibrary, build_library, check_events, check_sequences
from edge_machines import machine, tool
from edge_networks import SMALL

from spikenm_compile.artifact.directory import read_artifact
from spikenm_compile.graph import run_steps, spike_nodes
from spikenm_compile.runtime import load
from spikenm_compile.targets import C_LIBRARIES
from spikenm_compile.verification import verify


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], BuiltLibrary]:
    """Each pair of network and target is built once."""

    @cache
    def make(network: str, target: str) -> BuiltLibrary:
        return build_library(network, target, tmp_path_factory.mktemp(f"{network}-{target}"))

    return make


Make = Callable[[str, str], BuiltLibrary]
QUICK = ("x86-64-v3", "arm", "armv7-neon")
EVERY_TARGET = [("digits", target) for target in C_LIBRARIES]
PAIRS = [
    *EVERY_TARGET,
    *((network, target) for network in ("gestures", "every_step", "rleaky", "lif_recurrent") for target in QUICK),
    ("sew_iand", "arm"),
    ("vgg11", "arm"),
    ("one_four_stagger_int7", "arm"),
    ("counts_in_groups", "arm"),
    ("counts_in_groups", "cortex-a76"),
    ("counts_in_groups", "armv7-neon"),
    ("tables_one_eight_stagger_int8", "arm"),
    ("onesix_one_eight_int7", "arm"),
    ("sixfour_two_four_int4", "armv7-neon"),
]
STATIC = ("digits", "sew_resnet18", "sew_and", "sew_iand", "vgg11")
LARGE = ("rleaky", "lif_recurrent", "sew_resnet18", "sew_and", "sew_iand", "vgg11")
LONG = [(n, t) for n in LARGE for t in C_LIBRARIES if (n, t) not in PAIRS]
LONG += [(n, t) for n in SMALL for t in QUICK if (n, t) not in PAIRS]
LONG_PAIRS = [pytest.param(*pair, marks=pytest.mark.long) for pair in LONG]


@pytest.mark.parametrize(("network", "target"), [*PAIRS, *LONG_PAIRS])
def test_run_and_step_equal_the_lowered_graph(built: Make, network: str, target: str) -> None:
    check_sequences(built(network, target))


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


@pytest.mark.parametrize("target", QUICK)
def test_packed_spikes(built: Make, target: str) -> None:
    it = built("every_step", target)
    bits = np.packbits(it.x.transpose(0, 1).numpy().astype(bool), axis=-1, bitorder="little")
    assert it.results("packed", it.x.shape[1], len(it.x), data=bits.tobytes()) == it.reference(it.x)


@pytest.mark.parametrize("target", QUICK)
@pytest.mark.parametrize("network", ["gestures", "digits", "rleaky"])
def test_two_states_take_turns_on_one_arena(built: Make, network: str, target: str) -> None:
    it = built(network, target)
    assert it.drive("pair", it.x[:, :4] if it.per_step else it.x[:4]) == it.reference(
        it.x[:, :4] if it.per_step else it.x[:4]
    )


@pytest.mark.parametrize(
    ("network", "target", "chunk"),
    [
        *(("gestures", target, chunk) for target in QUICK for chunk in (1, 7, 1000)),
        *((network, target, 7) for network in ("rleaky", "lif_recurrent") for target in QUICK),
        *((network, target, 1000) for network, target in PAIRS if network in STATIC),
        *(pytest.param(n, t, 1000, marks=pytest.mark.long) for n, t in LONG),
    ],
)
def test_events_at_irregular_times_are_the_binned_input(built: Make, network: str, target: str, chunk: int) -> None:
    check_events(built(network, target), chunk)


@pytest.mark.parametrize("target", QUICK)
def test_what_is_refused(built: Make, target: str) -> None:
    it = built("digits", target)
    done = it.machine.run(it.program, "errors")
    assert done.returncode == 0, done.stderr.decode()
    lines = done.stdout.decode().splitlines()
    assert lines[1] == "-2 arena or state does not begin at a multiple of DIGITS_ALIGNMENT; align it"
    assert lines[8].startswith("-7 an event lies outside of the input; x < DIGITS_INPUT_WIDTH, y < ")
    assert all(";" in line for line in lines if line.startswith("-"))


@pytest.mark.parametrize("target", QUICK)
def test_the_guard_pages_guard(built: Make, target: str) -> None:
    it = built("digits", target)
    environment = {**os.environ, "HARNESS_SHORT": "64"}
    assert it.machine.run(it.program, "run", 0, 4).returncode == 0
    assert it.machine.run(it.program, "run", 0, 4, env=environment).returncode not in (0, 1, 3)


@pytest.mark.parametrize(
    ("network", "target", "steps"),
    [
        ("digits", "x86-64-v3", 20_000),
        ("digits", "arm", 500),
        ("rleaky", "arm", 500),
        *(pytest.param(n, "x86-64-v3", 10**6, marks=pytest.mark.long) for n in ("digits", "rleaky")),
        pytest.param("rleaky", "arm", 10**6, marks=pytest.mark.long),
    ],
)
def test_memory_does_not_grow(built: Make, network: str, target: str, steps: int) -> None:
    it = built(network, target)
    frame = it.x[0, 0] if it.per_step else it.x[0]
    done = it.machine.run(it.program, "many", steps, data=frame.contiguous().numpy().tobytes())
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize(("target", "cpu"), [("cortex-a76", "cortex-a53"), ("armv7-neon", "cortex-a9,neon=off")])
def test_a_cpu_without_the_features_is_refused_by_name(built: Make, target: str, cpu: str) -> None:
    it = built("digits", target)
    done = machine(target, cpu).run(it.program, "run", 0, 4)
    assert done.returncode == 3
    lacks = ", ".join(it.machine.cpu.features)
    assert done.stderr.decode().startswith(f"-3 this CPU lacks {lacks}, which the library uses; build the network for")


@pytest.mark.parametrize(("network", "target"), [*PAIRS, *LONG_PAIRS])
def test_nothing_is_needed_but_memory_functions(built: Make, network: str, target: str) -> None:
    it = built(network, target)
    listed = subprocess.run([tool("nm"), str(it.artifact / "libmodel.a")], capture_output=True, text=True, check=True)
    symbols = [line.split()[-2:] for line in listed.stdout.splitlines() if line and not line.endswith(":")]
    undefined = {name for kind, name in symbols if kind in "Uwv"}
    defined = {name for kind, name in symbols if kind not in "Uwv"}
    assert undefined - defined <= {"memcpy", "memset"}
    assert {name for kind, name in symbols if kind in "TRDBCWV" and not name.startswith(f"{network}_")} == set()


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
    it = build_library("gestures", "x86-64-v3", tmp_path, keep_spikes=True, max_steps=2)
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
