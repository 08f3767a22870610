"""The commands of docs/edge.md work: those for the device under QEMU, with a cross compiler as `cc`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from edge_machines import Machine, machine, tool

import spikenm_compile
from spikenm_compile.build import main
from spikenm_compile.runtime.stream import EVENT

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "edge.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)


def script(directory: Path, name: str, *words: str) -> None:
    (directory / name).write_text("#!/bin/sh\nexec " + " ".join(words) + ' "$@"\n')
    (directory / name).chmod(0o755)


@pytest.fixture
def device(tmp_path: Path) -> dict[str, str]:
    """An environment in which cc and cmake make programs for `arm`."""
    tools, where = tmp_path / "tools", machine("arm")
    tools.mkdir()
    compiler = tool("aarch64-linux-gnu-gcc")
    script(tools, "cc", compiler)
    script(tools, "python", sys.executable)
    lines = ["set(CMAKE_SYSTEM_NAME Linux)", f"set(CMAKE_C_COMPILER {compiler})"]
    lines += [f"set(CMAKE_CROSSCOMPILING_EMULATOR {';'.join(where.runner)})"]
    (tools / "arm.cmake").write_text("\n".join(lines))
    path = os.pathsep.join([str(tools), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "CMAKE_TOOLCHAIN_FILE": str(tools / "arm.cmake"), "PYTHONPATH": str(ROOT)}


def emulated(where: Machine, command: str) -> str:
    return re.sub(r"(^|\| )\./", rf"\1{' '.join(where.runner)} ./", command, flags=re.MULTILINE)


def test_every_command_of_the_page(device: dict[str, str], tmp_path: Path) -> None:
    tool("cmake")
    (app,) = blocks("c")
    (tmp_path / "app.c").write_text(app)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    printed = []
    for commands in blocks("sh"):
        line = f"set -e\n{emulated(machine('arm'), commands)}"
        done = subprocess.run(
            ["bash", "-c", line], cwd=tmp_path, env=device, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, commands + done.stderr
        printed.append(done.stdout)
    build, prove, ctest, own, events, live = printed
    assert build.endswith("artifact: digits-arm\n")
    assert prove.endswith("digits: equal to the reference bit for bit\n")
    assert "100% tests passed" in ctest
    assert re.fullmatch(r"class \d\n", own)
    assert re.fullmatch(r"1000 us: class \d \(\S+\)\n2000 us: class \d \(\S+\)\n", events)
    assert re.findall(r"^decision: (\w+)", live, re.MULTILINE) == ["left", "counterclockwise"]


def test_the_python_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine("x86-64-v3")
    monkeypatch.chdir(tmp_path)
    assert main(["--target", "x86-64-v3", "--out", "digits-x86-64-v3"]) == 0
    (code,) = blocks("python")
    images = np.random.default_rng(0).random((2, 1, 8, 8), dtype=np.float32)
    events = np.array([(0, 1, 2, 0), (2500, 3, 4, 0)], EVENT)
    names = {"spikenm_compile": spikenm_compile, "images": images, "events": events}
    exec(compile(code, "edge.md", "exec"), names)
    assert names["logits"].shape == (10,)  # type: ignore[attr-defined]
