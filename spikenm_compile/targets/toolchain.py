"""Whether TVM works on this machine; found out in another process, since a broken pair of packages crashes."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from functools import cache

from spikenm_compile.errors import ToolError

PINNED: dict[str, str | None] = {"apache-tvm": "0.27.0.post1", "apache-tvm-ffi": "0.1.14.post1"}
"""The pair that is tested together; apache-tvm 0.27 crashes with apache-tvm-ffi 0.1.15."""

INSTALL = "pip install " + " ".join(f"{package}=={version}" for package, version in PINNED.items())

SMOKE = """
import tvm
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T
with IRBuilder() as builder, T.prim_func(s_tir=True):
    T.func_name("f")
    x = T.arg("x", T.buffer((4,), "float32"))
    T.buffer_store(x, T.float32(1), [0])
tvm.ir.load_json(tvm.ir.save_json(tvm.IRModule({"f": builder.get()})))
"""
"""Serialises a function: what crashes with an apache-tvm-ffi newer than the pinned one."""


def installed(package: str) -> str | None:
    """Version of an installed package."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


@cache
def check_tvm() -> None:
    """Make sure that TVM can be used in this process; an unpinned pair has to pass the smoke test first.

    Raises:
        ToolError: a package is missing, or the smoke test fails.
    """
    found = {package: installed(package) for package in PINNED}
    missing = [package for package, version in found.items() if version is None]
    if missing:
        raise ToolError(f"{missing[0]} is not installed; native code needs it: run {INSTALL}")
    if found != PINNED:
        smoke_test()


def smoke_test(program: str = SMOKE) -> None:
    """Run a small TVM program in another process.

    Raises:
        ToolError: it fails or crashes.
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return
    how = (
        f"crashed with signal {-done.returncode}" if done.returncode < 0 else f"failed with exit code {done.returncode}"
    )
    pair = " with ".join(f"{package} {installed(package)}" for package in PINNED)
    raise ToolError(f"{pair} {how} in a smoke test; run {INSTALL}")
