"""Which C toolchain is taken for a CPU, and what its failures say."""

from __future__ import annotations

import importlib.util
import platform
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from spikenm_compile.errors import TargetError, ToolError
from spikenm_compile.targets import C_LIBRARIES, get_target
from spikenm_compile.targets.cpu import ARM, ARMV7_NEON, CORTEX_A76, EDGE_CPUS, X86_64_V3
from spikenm_compile.targets.cross import Toolchain, find_toolchain
from spikenm_compile.targets.llvm import check_llvm


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only directory on the path, on an x86 machine without zig."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    return tmp_path


def install(directory: Path, *names: str, exit_code: int = 0, message: str = "") -> None:
    for name in names:
        (directory / name).write_text(f"#!/bin/sh\necho '{message}' >&2\nexit {exit_code}\n")
        (directory / name).chmod(0o755)


def compiler(toolchain: Toolchain | None) -> list[str]:
    assert toolchain is not None
    return [Path(word).name for word in toolchain.cc]


def test_nothing_is_found_where_there_is_nothing(tools: Path) -> None:
    assert [find_toolchain(cpu) for cpu in EDGE_CPUS] == [None] * len(EDGE_CPUS)
    install(tools, "gcc", "aarch64-linux-gnu-gcc")
    assert find_toolchain(ARM) is None, "a compiler without an archiver"


def test_gnu_compilers_come_first_then_clang(tools: Path) -> None:
    install(tools, "clang", "llvm-ar")
    freestanding = ["-ffreestanding", "-nostdlib", "-fuse-ld=lld"]
    assert compiler(find_toolchain(ARM)) == ["clang", "--target=aarch64-linux-gnu", *freestanding]
    assert compiler(find_toolchain(ARMV7_NEON))[1] == "--target=armv7a-linux-gnueabihf"
    assert compiler(find_toolchain(X86_64_V3)) == ["clang"]
    install(tools, "aarch64-linux-gnu-gcc", "aarch64-linux-gnu-ar", "cc", "ar")
    assert compiler(find_toolchain(ARM)) == ["aarch64-linux-gnu-gcc"]
    assert compiler(find_toolchain(X86_64_V3)) == ["cc"]


def test_cc_is_for_this_machine_only(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tools, "own-cc", "ar", "cc")
    monkeypatch.setenv("CC", "own-cc")
    assert compiler(find_toolchain(X86_64_V3)) == ["own-cc"]
    assert find_toolchain(ARM) is None


def test_zig_comes_last(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: SimpleNamespace() if name == "ziglang" else None)
    found = find_toolchain(ARMV7_NEON)
    assert compiler(found)[1:] == ["-m", "ziglang", "cc", "-target", "arm-linux-gnueabihf"]
    assert found is not None
    assert found.ar[1:] == ("-m", "ziglang", "ar")
    assert compiler(find_toolchain(CORTEX_A76))[-1] == "aarch64-linux-gnu"


def test_a_compiler_that_fails_says_why(tools: Path) -> None:
    install(tools, "aarch64-linux-gnu-gcc", "aarch64-linux-gnu-ar", exit_code=1, message="no space left")
    toolchain = find_toolchain(ARM)
    assert toolchain is not None
    with pytest.raises(ToolError, match=r"aarch64-linux-gnu-gcc could not compile model\.c: no space left; a working"):
        toolchain.compile(tools / "model.c", tools / "model.o")
    with pytest.raises(ToolError, match=r"could not make libmodel\.a: no space left"):
        toolchain.archive([], tools / "libmodel.a")


def test_every_library_target_has_its_cpu() -> None:
    assert [get_target(name).name for name in C_LIBRARIES] == [cpu.name for cpu in EDGE_CPUS] == list(C_LIBRARIES)
    assert all(get_target(name).summary.startswith("C library and header for ") for name in C_LIBRARIES)


@pytest.mark.parametrize("cpu", EDGE_CPUS, ids=lambda cpu: cpu.name)
def test_llvm_knows_every_cpu(cpu: object) -> None:
    check_llvm(cpu)  # type: ignore[arg-type]


def test_what_llvm_does_not_know_is_refused_before_it_compiles() -> None:
    with pytest.raises(TargetError, match="target 'arm' is compiled for 'cortex-a999', which LLVM does not know for"):
        check_llvm(replace(ARM, mcpu="cortex-a999"))
    with pytest.raises(TargetError, match="target 'arm' asks for the feature 'warp', which LLVM does not know"):
        check_llvm(replace(ARM, mattr=("+warp",)))
