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


TARGETS: dict[str, Callable[[], Target]] = {"native": _native, "onnx": _onnx, "cuda": _cuda}
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
