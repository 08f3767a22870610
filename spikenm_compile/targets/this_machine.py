"""What tells trials of this machine from those of others."""

from __future__ import annotations

import importlib.metadata

from spikenm_compile.costs.trials import Machine
from spikenm_compile.targets.cpu import Cpu, cpu_model

PACKAGES = ("spikenm-compile", "apache-tvm")
"""Makers of kernels."""


def this_machine(cpu: Cpu) -> Machine:
    """This machine, with kernels compiled for `cpu` by the packages that are installed."""
    found = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions()}
    return Machine(cpu.name, cpu_model(), tuple(f"{name} {found.get(name, 'missing')}" for name in PACKAGES))
