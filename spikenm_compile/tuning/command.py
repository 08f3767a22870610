"""`python -m spikenm_compile tune`: measure the kernels of a network's layers on this machine."""

from __future__ import annotations

import platform
from pathlib import Path

from spikenm_compile.compiler import lower
from spikenm_compile.console import progress
from spikenm_compile.errors import InputError
from spikenm_compile.frontend.readings import LAYOUT, steps_first
from spikenm_compile.network import Network
from spikenm_compile.targets import get_target
from spikenm_compile.targets.cpu import Cpu, cpu_flags
from spikenm_compile.targets.this_machine import this_machine
from spikenm_compile.tuning.session import format_winners, missing, run_trials
from spikenm_compile.tuning.tasks import tasks_of
from spikenm_compile.tuning.worker import Worker


def tune(network: Network, log: Path, *, target: str, pattern: str, weight_type: str) -> str:
    """Add to the log what it does not know of the network's layers.

    Returns:
        The best kernel of each layer, as a table.

    Raises:
        InputError: the target has no kernels to choose from, or this machine does not run them; the log is none.
        CaptureError, PassError: the network has no integer form.
    """
    cpu = _cpu_of(target)
    lowered = lower(network.model, network.example_inputs, pattern=pattern, target=target, weight_type=weight_type)
    samples = steps_first(lowered.meta[LAYOUT], network.example_inputs)
    tasks = tasks_of(lowered, samples, get_target(target).families, cpu.tile_width, this_machine(cpu))
    left = missing(tasks, log)
    with progress("tune", len(left)) as advance, Worker(cpu) as worker:
        run_trials(left, log, worker, advance)
    known = sum(len(task.kernels) for task in tasks) - len(left)
    total = f"{len(left)} kernels measured, {known} known before: {log}; use it with build --tune-log {log}"
    return f"{format_winners(tasks, log)}\n{total}"


def _cpu_of(target: str) -> Cpu:
    cpu = get_target(target).known_cpu
    if cpu is None:
        raise InputError(
            f"target '{target}' has no kernels to choose from by time; those of native and of C libraries for this "
            "machine are tuned, so choose one of these"
        )
    if cpu.machine != platform.machine() or not cpu_flags().issuperset(cpu.features):
        raise InputError(
            f"kernels for {cpu.name} do not run on this machine ({platform.machine()}); kernels are tuned where they "
            "run, so run tune there"
        )
    return cpu
