"""What a build leaves where there is no toolchain for the target, and what the artifact of another machine says."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from edge_machines import machine, tool
from edge_networks import NETWORKS, PATTERN

from spikenm_compile.errors import ArtifactError, TargetError
from spikenm_compile.package import write_package
from spikenm_compile.runtime import load
from spikenm_compile.targets import c_library, get_target
from spikenm_compile.targets.cross import find_toolchain

PARTS = {"model.c", "weights.c", "kernels.o", "entries.o"}


def build(target: str, out: Path) -> dict[str, str]:
    """The texts that the build shows."""
    shown: dict[str, str] = {}
    lowered, x = NETWORKS["every_step"]()
    write_package(
        lowered, get_target(target), out, name="My net (v2)", pattern=PATTERN, samples=x, emit=shown.__setitem__
    )
    return shown


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(c_library, "find_toolchain", lambda _cpu: None)
    shown = build("x86-64-v3", tmp_path / "parts")
    assert "holds the parts of the library" in shown["link.txt"]
    return tmp_path / "parts"


def test_without_a_toolchain_the_parts_are_there_and_cmake_makes_the_library(parts: Path) -> None:
    names = {path.name for path in parts.iterdir()}
    assert names > PARTS
    assert not names & {"libmodel.a", "libmodel.so"}
    with pytest.raises(
        TargetError, match="holds no shared library, since there was no C compiler for its target where"
    ):
        load(parts)
    where = machine("x86-64-v3")
    for command in (["-S", str(parts), "-B", str(parts / "b")], ["--build", str(parts / "b")]):
        subprocess.run([tool("cmake"), *command], check=True, capture_output=True)
    done = where.run(parts / "b" / "example_run")
    assert done.stdout.decode().endswith("My net (v2): equal to the reference bit for bit\n")


def test_with_a_toolchain_the_library_is_there_and_the_parts_are_not(tmp_path: Path) -> None:
    if find_toolchain(machine("arm").cpu) is None:
        pytest.skip("no C compiler for ARM")
    shown = build("arm", tmp_path / "whole")
    names = {path.name for path in (tmp_path / "whole").iterdir()}
    assert names & PARTS == {"model.c"}
    assert names > {"libmodel.a", "libmodel.so", "model.h", "test_vectors.h", "example_stream.c", "CMakeLists.txt"}
    assert set(shown) == {"tir.py", "kernels.s"}
    assert re.search(r"\bssra\s+v\d+\.8h", shown["kernels.s"]), "odd bytes are shifted and added in one instruction"
    assert not re.search(r"\bfml[as]\b|\bfn?m(add|sub)\b", shown["kernels.s"]), "a product and a sum are rounded apart"
    assert "my_net_v2_init(void *arena, void *state);" in (tmp_path / "whole" / "model.h").read_text()
    with pytest.raises(TargetError, match="is built for aarch64, but this machine is x86_64; build it for a target of"):
        load(tmp_path / "whole")


def test_a_build_can_be_repeated_byte_for_byte(tmp_path: Path) -> None:
    machine("arm")
    for name in ("a", "b"):
        build("arm", tmp_path / name)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


def test_headers_are_c_and_cplusplus(parts: Path) -> None:
    for language in ("c", "c++"):
        standard = "-std=c99" if language == "c" else "-std=c++11"
        command = [tool("gcc"), "-x", language, standard, "-pedantic", "-Wall", "-Wextra", "-Werror", "-fsyntax-only"]
        source = (
            '#include "model.h"\n#include "test_vectors.h"\nMY_NET_V2_ALIGNED uint8_t arena[MY_NET_V2_ARENA_BYTES];\n'
        )
        flags = ["-Wno-unused-variable", "-Wno-unused-const-variable", f"-I{parts}", "-"]
        subprocess.run([*command, *flags], input=source, text=True, check=True)


def test_a_library_that_does_not_fit_its_manifest_is_refused(tmp_path: Path) -> None:
    machine("x86-64-v3")
    build("x86-64-v3", tmp_path / "a")
    from cli_fixtures import resign

    from spikenm_compile.artifact.directory import read_artifact

    manifest = read_artifact(tmp_path / "a").manifest
    resign(tmp_path / "a", manifest, code={**manifest.code, "arena_bytes": 64})
    with pytest.raises(
        ArtifactError, match=r"the library needs \(\d+, \d+\) bytes of arena and state, its manifest says"
    ):
        load(tmp_path / "a")
    resign(tmp_path / "a", manifest, code={**manifest.code, "symbol": "other"})
    with pytest.raises(ArtifactError, match="lacks the function other_error; build the artifact again"):
        load(tmp_path / "a")
