"""Facts about machines, and how to build for each. The table is light: a target's own imports come when it is used."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from spikenm_compile.errors import TargetError

if TYPE_CHECKING:
    from spikenm_compile.targets.base import Target


def _native() -> Target:
    from spikenm_compile.targets.native import Native

    return Native()


def _onnx() -> Target:
    from spikenm_compile.targets.onnx import Onnx

    return Onnx()


def _cuda() -> Target:
    from spikenm_compile.targets.cuda import Cuda

    return Cuda()


def _portable_c() -> Target:
    from spikenm_compile.targets.portable_c import PortableC

    return PortableC()


def _cortex_m() -> Target:
    from spikenm_compile.targets.portable_c import CORTEX_M, PortableC

    return PortableC("cortex-m", CORTEX_M, rows="auto")


def _c_library(cpu: str) -> Callable[[], Target]:
    def make() -> Target:
        from spikenm_compile.targets.c_library import CLibrary
        from spikenm_compile.targets.cpu import EDGE_CPUS

        return CLibrary(next(known for known in EDGE_CPUS if known.name == cpu))

    return make


C_LIBRARIES = ("arm", "cortex-a53", "cortex-a72", "cortex-a76", "armv7-neon", "x86-64-v3", "x86-64-v4")
"""CPUs (targets.cpu) that C libraries are built for."""

TARGETS: dict[str, Callable[[], Target]] = {
    "native": _native,
    "onnx": _onnx,
    "cuda": _cuda,
    "c": _portable_c,
    "cortex-m": _cortex_m,
    **{cpu: _c_library(cpu) for cpu in C_LIBRARIES},
}
"""Name -> how to get the target."""

FLOAT_TARGETS = ("onnx",)
"""Targets that compute in float32 what has no integer form."""


def get_target(name: str) -> Target:
    """The target of that name.

    Raises:
        TargetError: there is none.
    """
    if name not in TARGETS:
        raise TargetError(f"target '{name}' is unknown; known are {', '.join(TARGETS)}; choose one with --target")
    return TARGETS[name]()
