"""The live example: events in, decisions out, in C."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cli_fixtures import EXAMPLES

from spikenm_compile.build import main as build_main
from spikenm_compile.training.gestures import CLASSES

MODEL = f"{EXAMPLES / 'gesture_stream.py'}:make"
CC = shutil.which("cc")

pytestmark = pytest.mark.skipif(CC is None, reason="no C compiler is installed")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("gestures")
    assert build_main([MODEL, "--target", "x86-64-v3", "--out", str(directory / "model")]) == 0
    sources = [str(EXAMPLES / "gesture_stream.c"), str(directory / "model" / "libmodel.a")]
    flags = ["-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", f"-I{directory / 'model'}"]
    assert CC is not None
    subprocess.run([CC, *flags, *sources, "-o", str(directory / "gesture_stream")], check=True)
    return directory / "gesture_stream"


def events_of(*gestures: str) -> str:
    command = [sys.executable, str(EXAMPLES / "gesture_stream.py"), *gestures]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_gestures_are_decided_while_they_happen(program: Path) -> None:
    done = subprocess.run([program], input=events_of(*CLASSES), capture_output=True, text=True, check=True)
    decisions = re.findall(r"^decision: (\w+) after (\d+) ms$", done.stdout, re.MULTILINE)
    assert [gesture for gesture, _ in decisions] == list(CLASSES)
    assert sum(int(ms) for _, ms in decisions) / len(decisions) < 150
    assert re.search(
        r"^128 steps, median +[\d.]+ us, slowest +[\d.]+ us, one every 10000 us$", done.stdout, re.MULTILINE
    )
    assert done.stderr == ""


def test_an_event_outside_of_the_camera_is_named(program: Path) -> None:
    done = subprocess.run([program], input="0 1 1 0\n5 40 1 0\n", capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "an event lies outside of the input" in done.stderr


def test_a_gesture_that_does_not_exist_is_named() -> None:
    command = [sys.executable, str(EXAMPLES / "gesture_stream.py"), "wiggle"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "'wiggle'" in done.stderr
    assert "clockwise" in done.stderr
