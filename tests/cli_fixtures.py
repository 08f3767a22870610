"""The command line as its tests call it: artifacts built once, real processes, and the one line of an error."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from spikenm_compile.artifact.manifest import MANIFEST_NAME, Manifest, to_bytes
from spikenm_compile.build import main as build_main

EXAMPLES = Path(__file__).parents[1] / "examples"
BUILD = "spikenm_compile.build"
PROGRAM = "spikenm_compile"


@cache
def _built(folder: Path, target: str) -> Path:
    out = folder / f"carried-{target}"
    assert build_main(["--target", target, "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="session")
def native_artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The carried network for this CPU; not to be changed."""
    return _built(tmp_path_factory.getbasetemp(), "native")


@pytest.fixture(scope="session")
def onnx_artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The carried network as ONNX; not to be changed."""
    return _built(tmp_path_factory.getbasetemp(), "onnx")


def start(module: str, *arguments: str, cwd: Path, **options: Any) -> subprocess.Popen[str]:
    """Start `python -m module`."""
    command = [sys.executable, "-m", module, *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=cwd, **{**pipes, **options})


def run(
    module: str, *arguments: str, cwd: Path, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `python -m module` to its end, `env` added to the environment."""
    with start(module, *arguments, cwd=cwd, env={**os.environ, **(env or {})}) as process:
        stdout, stderr = process.communicate(timeout=120)
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def interrupt(process: subprocess.Popen[str], when: Callable[[float], bool]) -> tuple[int, str]:
    """Send Ctrl-C once `when(seconds since now)` holds or the process has ended; its exit code and stderr."""
    started = time.monotonic()
    while process.poll() is None and not when(time.monotonic() - started):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=120)
    return process.returncode, stderr


def the_error(capsys: pytest.CaptureFixture[str]) -> str:
    """The message of a command that failed: one line on stderr, nothing on stdout."""
    stdout, stderr = capsys.readouterr()
    assert stdout == ""
    assert_one_error(stderr)
    return stderr.removeprefix("error: ").rstrip("\n")


def assert_one_error(stderr: str) -> None:
    """One line that begins with `error: `."""
    assert stderr.startswith("error: ")
    assert stderr.count("\n") == 1
    assert stderr.endswith("\n")


def resign(artifact: Path, manifest: Manifest, **changes: Any) -> None:
    """Give the artifact the manifest with `changes`, under a right digest."""
    (artifact / MANIFEST_NAME).write_bytes(to_bytes(replace(manifest, **changes)))
