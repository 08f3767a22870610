"""Whether this machine can run native code, asked before it is loaded: a missing instruction kills the process."""

from __future__ import annotations

import platform
from collections.abc import Collection
from pathlib import Path

from spikenm_compile.errors import TargetError

CPUINFO = Path("/proc/cpuinfo")

_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
"""Other names of the same machine."""

_FEATURES = {"sse3": "pni", "lzcnt": "abm", "neon": "asimd", "dotprod": "asimddp", "fp16": "asimdhp"}
"""Compiler's name -> name in /proc/cpuinfo, where they are not spelled alike."""


def check_machine(name: str, machine: str, features: Collection[str], cpuinfo: Path = CPUINFO) -> None:
    """Check that this machine is a `machine` with all `features`, for the artifact `name`.

    Raises:
        TargetError: it is not, or it cannot be told.
    """
    here = _machine(platform.machine())
    if _machine(machine) != here:
        raise TargetError(
            f"artifact '{name}' is built for {machine}, but this machine is {here}; "
            "build it for a target of this machine"
        )
    if not features:
        return
    available = cpu_features(cpuinfo)
    missing = [feature for feature in features if _feature(feature) not in available]
    if missing:
        raise TargetError(
            f"artifact '{name}' uses the processor features {', '.join(missing)}, which this machine lacks; "
            "build it for a target without them"
        )


def cpu_features(cpuinfo: Path = CPUINFO) -> frozenset[str]:
    """Features of the first processor, in the spelling of `_feature`.

    Raises:
        TargetError: `cpuinfo` cannot be read, as on systems other than Linux.
    """
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError as error:
        raise TargetError(
            f"the processor's features cannot be read from {cpuinfo} ({error.strerror}); "
            "native code runs on Linux; build for onnx instead"
        ) from error
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return frozenset(_spelling(word) for word in value.split())
    return frozenset()


def _machine(name: str) -> str:
    return _MACHINES.get(name.lower(), name.lower())


def _feature(name: str) -> str:
    return _spelling(_FEATURES.get(name.lower(), name))


def _spelling(name: str) -> str:
    """One spelling for avx512_vnni and avx512vnni, sse4_1 and sse4.1."""
    return name.lower().replace("_", "").replace(".", "")
