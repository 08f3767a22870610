"""Linking object files to a library that exports what it should and needs nothing."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from torch.fx import GraphModule

from spikenm_compile.errors import ToolError
from spikenm_compile.targets.linker import COMPILERS, find_compiler, link_shared
from spikenm_compile.targets.native import LIBRARY, Native

ENTRIES = {"spikenm_prepare", "spikenm_before", "spikenm_steps", "spikenm_after"}
needs_nm = pytest.mark.skipif(shutil.which("nm") is None, reason="nm lists a library's symbols")


def program(path: Path, exit_code: int, message: str = "") -> Path:
    path.write_text(f"#!/bin/sh\necho first >&2\necho '{message}' >&2\nexit {exit_code}\n")
    path.chmod(0o755)
    return path


def symbols(library: Path, *options: str) -> set[str]:
    listed = subprocess.run(["nm", "-D", *options, str(library)], capture_output=True, text=True, check=True)
    return {line.split()[-1].split("@")[0] for line in listed.stdout.splitlines()}


def compile_c(directory: Path, code: str) -> Path:
    source, target = directory / "code.c", directory / "code.o"
    source.write_text(code)
    compiler = find_compiler()
    assert compiler is not None
    subprocess.run([compiler, "-c", "-fPIC", "-o", str(target), str(source)], check=True)
    return target


def test_the_first_compiler_on_the_path_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_compiler() is None
    for name in reversed(COMPILERS):
        program(tmp_path / name, 0)
        assert find_compiler() == str(tmp_path / name)


def test_cc_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = program(tmp_path / "own-cc", 0)
    monkeypatch.setenv("CC", str(own))
    assert find_compiler() == str(own)
    monkeypatch.setenv("CC", "")
    assert find_compiler() != str(own)


def test_no_compiler_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match="needs a C compiler and none of cc, gcc, clang is on the path; install gcc or"):
        link_shared([], tmp_path / "x.so", [])


def test_a_compiler_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(ToolError, match="needs a C compiler and CC=no-such-compiler is not there; install gcc"):
        link_shared([], tmp_path / "x.so", [])


@pytest.mark.parametrize(("message", "reason"), [("cannot find -lm", "cannot find -lm"), ("", "first")])
def test_a_linker_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, message: str, reason: str) -> None:
    monkeypatch.setenv("CC", str(program(tmp_path / "broken", 1, message)))
    with pytest.raises(ToolError, match=f"broken could not link the library: {reason}; a C compiler that links ELF"):
        link_shared([], tmp_path / "x.so", [])
    assert [path.name for path in tmp_path.iterdir()] == ["broken"]


def test_an_object_file_that_is_none(tmp_path: Path) -> None:
    broken = tmp_path / "broken.o"
    broken.write_text("this is no object file")
    with pytest.raises(ToolError, match="could not link the library: "):
        link_shared([broken], tmp_path / "x.so", [])


@needs_nm
def test_only_what_is_asked_for_is_exported(tmp_path: Path) -> None:
    code = compile_c(tmp_path, "int wanted(void) { return 1; }\nint other(void) { return 2; }\n")
    link_shared([code], tmp_path / "x.so", ["wanted"])
    assert symbols(tmp_path / "x.so", "--defined-only") == {"wanted"}
    assert not list(tmp_path.glob("*.map"))


@needs_nm
def test_a_native_library_exports_four_functions_and_needs_only_memory_functions(
    tmp_path: Path, lowered: GraphModule
) -> None:
    Native().build(lowered, tmp_path, name="test", num_steps=3)
    assert [path.name for path in tmp_path.iterdir()] == [LIBRARY]
    assert symbols(tmp_path / LIBRARY, "--defined-only") == ENTRIES
    assert symbols(tmp_path / LIBRARY, "--undefined-only") <= {"memcpy", "memset"}


def test_a_build_can_be_repeated_byte_for_byte(tmp_path: Path, lowered: GraphModule) -> None:
    built = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        code = Native().build(lowered, tmp_path / name, name="test", num_steps=3)
        built.append((code, (tmp_path / name / LIBRARY).read_bytes()))
    assert built[0][0] == built[1][0]
    assert built[0][1] == built[1][1]
