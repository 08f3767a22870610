"""The command line on a network without an integer form: build, plan, inspect, verify, and the way out of native."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest
from cli_fixtures import the_error

from spikenm_compile.build import main as build
from spikenm_compile.cli import main

MODEL = """
import torch
from torch import nn
from spikenm_compile.neurons import Neuron, SpikingNeuron

ESCAPE = Neuron(
    ("h = v * 0.5 + exp(x) - 1.0", "s = h >= v_threshold", "v = where(s, 0.0, h)"), {"v": 0.0}, {"v_threshold": 1.0}
)

def make(seed=0, hidden=8):
    torch.manual_seed(seed)
    layers = (nn.Linear(6, hidden), SpikingNeuron(ESCAPE, step_mode="m"), nn.Linear(hidden, 3))
    return nn.Sequential(*layers), torch.rand(4, 5, 6) * 3

def make_other():
    return make(1)

def make_wider():
    return make(0, 12)
"""
WHY = "layer '1' computes exp, whose last bit differs between machines"


@pytest.fixture
def model(tmp_path: Path) -> str:
    (tmp_path / "net.py").write_text(MODEL)
    return f"{tmp_path / 'net.py'}:make"


@cache
def _built(folder: Path) -> Path:
    (folder / "net.py").write_text(MODEL)
    assert build([f"{folder / 'net.py'}:make", "--target", "onnx", "--out", str(folder / "artifact")]) == 0
    return folder / "artifact"


@pytest.fixture
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not to be changed."""
    folder = tmp_path_factory.getbasetemp() / "float-cli"
    folder.mkdir(exist_ok=True)
    return _built(folder)


def test_build_says_what_stopped_the_integer_path(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build([model, "--target", "onnx", "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert f"arithmetic float32, as PyTorch up to rounding, not bit for bit\nbecause: {WHY}" in printed.out
    assert main(["inspect", str(tmp_path / "out"), "--json"]) == 0
    manifest = json.loads(capsys.readouterr().out)
    assert manifest["arithmetic"] == "float32"
    assert manifest["why"].startswith(WHY)


def test_the_plan_says_it_too(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert build([model, "--target", "onnx", "--dry-run"]) == 0
    assert f"because: {WHY}" in capsys.readouterr().out
    assert build([model, "--target", "onnx", "--dry-run", "--json", "--emit-ir", str(tmp_path / "ir")]) == 0
    assert [layer["kernel"] for layer in json.loads(capsys.readouterr().out)] == ["onnx float32"] * 2
    assert "exp" in next((tmp_path / "ir").glob("*step-graph.txt")).read_text()


@pytest.mark.parametrize("options", [[], ["--target", "onnx", "--arithmetic", "int8"], ["--dry-run"]])
def test_whole_numbers_are_refused_with_the_way_out(
    model: str, options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build([model, "--out", str(tmp_path / "out"), *options]) == 1
    error = the_error(capsys)
    assert error.startswith(WHY)
    assert error.endswith("; --target onnx computes it in float32")


def test_float32_of_native_is_refused(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert build([model, "--out", str(tmp_path / "out"), "--arithmetic", "float32"]) == 1
    assert "target 'native' computes in whole numbers; float32 is computed by onnx" in the_error(capsys)


def test_inspect_and_verify(artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["inspect", str(artifact)]) == 0
    shown = capsys.readouterr().out
    assert f"because: {WHY}" in shown
    assert "T=4, another input at each step, input as float32" in shown
    assert main(["verify", str(artifact)]) == 0
    assert "float32: compared with PyTorch within" in capsys.readouterr().out
    assert main(["verify", str(artifact), f"{artifact.parent / 'net.py'}:make"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[2:4]] == ["test", "examples"]


def test_verify_against_another_model(artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["verify", str(artifact), f"{artifact.parent / 'net.py'}:make_other"]) == 1
    assert "float32: FARTHER from PyTorch" in capsys.readouterr().out
    assert main(["verify", str(artifact), f"{artifact.parent / 'net.py'}:make_wider"]) == 1
    assert "was not built from Sequential: their inputs or spiking layers differ" in the_error(capsys)


def test_the_carried_network_in_float32(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out")
    assert build(["--target", "onnx", "--arithmetic", "float32", "--out", out]) == 0
    assert "because: float32 was asked for" in capsys.readouterr().out
    assert main(["verify", out, "--digits"]) == 0
    lines = capsys.readouterr().out.splitlines()
    accuracies = {line.rsplit(maxsplit=1)[0].strip(): line.rsplit(maxsplit=1)[1] for line in lines[-2:]}
    assert accuracies["float model"] == accuracies["artifact"]
