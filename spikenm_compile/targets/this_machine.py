"""Which machine's trials a build goes by: this one's, or those of a board that it is made for."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable
from dataclasses import replace

from spikenm_compile.costs.trials import Machine, machine_of
from spikenm_compile.errors import InputError
from spikenm_compile.targets.cpu import Cpu, cpu_model

PACKAGES = ("spikenm-compile", "apache-tvm")
"""Makers of kernels."""
BOARD = "board "
"""How the CPU's name begins in trials of a board."""


def this_machine(cpu: Cpu) -> Machine:
    """This machine, with kernels compiled for `cpu` by the packages that are installed."""
    return Machine(cpu.name, cpu_model(), _versions())


def board_machine(cpu: Cpu, name: str) -> Machine:
    """A board that is reached from this machine."""
    return Machine(cpu.name, f"{BOARD}{name}", _versions())


def tuned_machine(cpu: Cpu, keys: Iterable[str]) -> Machine:
    """Whose trials of a log count for code for `cpu`: this machine's if it has some, else those of the one board.

    Args:
        cpu: what is built for.
        keys: of the log's trials.

    Raises:
        InputError: the log holds trials of several boards.
    """
    here, known = this_machine(cpu), {machine_of(key) for key in keys}
    boards = sorted(m.model for m in known if replace(m, model="") == replace(here, model="") and _is_board(m))
    if here in known or not boards:
        return here
    if len(boards) > 1:
        raise InputError(
            f"the tune log holds trials for {cpu.name} of {len(boards)} boards ({', '.join(boards)}); kernels are "
            "chosen by those of one, so give a log of that board alone"
        )
    return replace(here, model=boards[0])


def _is_board(machine: Machine) -> bool:
    return machine.model.startswith(BOARD)


def _versions() -> tuple[str, ...]:
    found = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions()}
    return tuple(f"{name} {found.get(name, 'missing')}" for name in PACKAGES)
