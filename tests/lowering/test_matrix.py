"""Every CPU family on every kind of layer and CPU equals the reference bit for bit, and stays inside of its buffers."""

from __future__ import annotations

import platform
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from edge_machines import Machine, machine
from kernel_batch import Batch
from layer_matrix import PATTERNS, Case, cover, spike_rate, takable

from spikenm_compile.passes.select_kernels import EVENT_ROWS
from spikenm_compile.targets.cpu import CPUS, EDGE_CPUS, Cpu, cpu_flags, detect
from spikenm_compile.targets.cross import find_toolchain
from spikenm_compile.targets.native import Native

ALL_CPUS = {cpu.name: cpu for cpu in (*CPUS, *EDGE_CPUS) if cpu.name in ("aarch64", "armv7-neon") or "x86" in cpu.name}
AT_A_TIME = 150
"""Layers of one program, so that its data fit the memory."""


def runs_on(cpu: Cpu) -> Machine:
    """This machine, or an emulated one."""
    if cpu.machine != platform.machine():
        return machine("arm" if cpu.name == "aarch64" else cpu.name)
    if not cpu_flags().issuperset(cpu.features) or find_toolchain(cpu) is None:
        pytest.skip(f"this machine is no {cpu.name}, or has no C compiler")
    return Machine(cpu, ())


@cache
def covering() -> list[tuple[Case, str]]:
    return cover(list(takable(draws=3)), list(ALL_CPUS))


@pytest.mark.parametrize("cpu", ALL_CPUS.values(), ids=lambda cpu: cpu.name)
def test_layers_that_cover_all_pairs(tmp_path: Path, cpu: Cpu) -> None:
    batch = Batch.build([case for case, name in covering() if name == cpu.name], runs_on(cpu), tmp_path)
    assert batch.run() == []


@pytest.mark.long
@pytest.mark.parametrize("cpu", ALL_CPUS.values(), ids=lambda cpu: cpu.name)
@pytest.mark.parametrize("draws", [4])
def test_layers_of_every_family_pattern_and_type_of_weights(tmp_path: Path, cpu: Cpu, draws: int) -> None:
    where, cases = runs_on(cpu), list(takable(draws, tries=60, seed=len(cpu.name)))
    for number, start in enumerate(range(0, len(cases), AT_A_TIME)):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert Batch.build(cases[start : start + AT_A_TIME], where, folder).run() == []


def test_every_family_is_there_with_every_pattern_that_it_takes() -> None:
    cases = [case for case, _ in covering()]
    assert {case.family for case in cases} == set(Native().families)
    assert {case.pattern for case in cases if case.family == EVENT_ROWS} == set(PATTERNS)
    rates = [spike_rate(case) for case in cases if case.density > 0 and case.neuron != "none"]
    assert sum(0.01 < rate < 0.9 for rate in rates) > 0.7 * len(rates)


def test_what_is_wrong_is_reported(tmp_path: Path) -> None:
    """Outputs that end beyond the memory, and outputs of other inputs."""
    cases = [case for case, _ in covering() if case.neuron == "leaky" and 0.1 < spike_rate(case) < 0.9][:3]
    batch = Batch.build(cases, runs_on(detect()), tmp_path)
    assert batch.run() == []
    short = batch.run("short")
    assert [line.split(" leaves ")[0].count("Case") for line in short] == [1, 1, 1]
    assert all(line.endswith("leaves its buffers, buffers at the end") for line in short)
    spoiled = replace(batch, is_spoiled=True).run()
    assert sum("differs, buffers at the" in line for line in spoiled) == 6
