"""`python -m spikenm_compile tune`: measure the kernels of a network's layers on this machine."""

from __future__ import annotations

import platform
from functools import partial
from pathlib import Path

from spikenm_compile.compiler import lower
from spikenm_compile.console import progress
from spikenm_compile.errors import InputError
from spikenm_compile.frontend.readings import LAYOUT, steps_first
from spikenm_compile.network import Network
from spikenm_compile.targets import get_target
from spikenm_compile.targets.cpu import Cpu, cpu_flags
from spikenm_compile.targets.this_machine import board_machine, this_machine
from spikenm_compile.tuning.board import BoardAddress, BoardMeasurer
from spikenm_compile.tuning.session import format_winners, missing, run_trials
from spikenm_compile.tuning.tasks import tasks_of
from spikenm_compile.tuning.worker import Worker


def tune(
    network: Network, log: Path, *, target: str, pattern: str, weight_type: str, board: BoardAddress | None = None
) -> str:
    """Add to the log what it does not know of the network's layers.

    Args:
        network: what is tuned.
        log: is added to.
        target: whose kernels are measured.
        pattern: that the weights hold.
        weight_type: that they are quantised to.
        board: where kernels are measured; None: here.

    Returns:
        The best kernel of each layer, as a table.

    Raises:
        InputError: the target has no kernels to choose from, or this machine does not run them; the log is none.
        CaptureError, PassError: the network has no integer form.
        ToolError: the board does not answer, or nothing here links for it.
    """
    cpu = _cpu_of(target, is_here=board is None)
    machine = this_machine(cpu) if board is None else board_machine(cpu, board.name)
    lowered = lower(network.model, network.example_inputs, pattern=pattern, target=target, weight_type=weight_type)
    samples = steps_first(lowered.meta[LAYOUT], network.example_inputs)
    tasks = tasks_of(lowered, samples, get_target(target).families, cpu.tile_width, machine)
    left = missing(tasks, log)
    measurer = None if board is None else partial(BoardMeasurer, board)
    with progress("tune", len(left)) as advance, Worker(cpu, measurer) as worker:
        run_trials(left, log, worker, advance)
    known = sum(len(task.kernels) for task in tasks) - len(left)
    total = f"{len(left)} kernels measured, {known} known before: {log}; use it with build --tune-log {log}"
    return f"{format_winners(tasks, log)}\n{total}"


def _cpu_of(target: str, *, is_here: bool) -> Cpu:
    cpu = get_target(target).known_cpu
    if cpu is None:
        raise InputError(
            f"target '{target}' has no kernels to choose from by time; those of native and of C libraries for this "
            "machine are tuned, so choose one of these"
        )
    if is_here and (cpu.machine != platform.machine() or not cpu_flags().issuperset(cpu.features)):
        raise InputError(
            f"kernels for {cpu.name} do not run on this machine ({platform.machine()}); kernels are tuned where they "
            "run, so run tune there, or give it --rpc HOST:PORT of such a board"
        )
    return cpu
