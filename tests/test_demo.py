from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from cli_fixtures import PROGRAM, interrupt, start, the_error

from spikenm_compile import demo
from spikenm_compile.artifact.directory import read_artifact
from spikenm_compile.cli import main
from spikenm_compile.errors import PassError, ToolError
from spikenm_compile.package import VECTORS_NAME
from spikenm_compile.verification import Check


@dataclass(frozen=True)
class Run:
    """What a whole demo left."""

    out: Path
    code: int
    stdout: str
    stderr: str


@pytest.fixture(scope="module")
def short_demo(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two epochs, in a process of its own."""
    folder = tmp_path_factory.mktemp("demo")
    process = start(PROGRAM, "demo", "--epochs", "2", "--out", "digits", cwd=folder)
    stdout, stderr = process.communicate(timeout=300)
    return Run(folder / "digits", process.returncode, stdout, stderr)


def test_the_demo_leaves_two_proved_artifacts_and_a_clean_stderr(short_demo: Run) -> None:
    assert (short_demo.code, short_demo.stderr) == (0, "")
    assert short_demo.stdout.count("equal bit for bit to the lowered graph") == 2
    assert sorted(os.listdir(short_demo.out)) == ["native", "onnx"]
    for target in ("native", "onnx"):
        manifest = read_artifact(short_demo.out / target).manifest
        assert (manifest.target, manifest.pattern, manifest.name) == (target, "2:4", "digits-demo")
        assert (short_demo.out / target / VECTORS_NAME).is_file()
    assert os.listdir(short_demo.out.parent) == ["digits"]


def test_the_closing_table_has_every_contender_with_accuracy_and_latency(short_demo: Run) -> None:
    table = short_demo.stdout[short_demo.stdout.index("digits, T=4") :]
    found = dict(re.findall(r"^(\S.*?)  +(\d+\.\d\d)% .*\d+ µs \(\d+-\d+\)$", table, re.MULTILINE))
    assert found.keys() == {
        "dense, torch eager",
        "dense, ONNX Runtime fp32",
        "2:4, native artifact",
        "2:4, onnx artifact",
    }
    assert found["2:4, native artifact"] == found["2:4, onnx artifact"]
    assert all(float(share) > 60 for share in found.values())
    assert table.rstrip().endswith("onnx artifact: " + str(short_demo.out / "onnx"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pattern", "5:4"], r"pattern '5:4' keeps 5 of 4 weights"),
        (["--epochs", "0"], r"0 epochs train nothing; give --epochs 1 or more"),
        (["--out", "file"], r"'file' is a file, and the demo writes into a directory; give another --out"),
        (["--out", "mine"], r"'mine/native' is not an artifact, and only artifacts are replaced; give another --out"),
    ],
)
def test_what_would_stop_the_demo_stops_it_before_the_training(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "mine" / "native").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "train_pair", _never)
    assert main(["demo", *arguments]) == 1
    assert re.search(message, the_error(capsys))


def _never(*_: object, **__: object) -> None:
    raise AssertionError("it has begun to train")


@pytest.mark.parametrize(
    ("name", "found", "message"),
    [
        ("find_compiler", lambda: None, r"no C compiler is found, .*; install gcc or clang, or set CC"),
        ("find_spec", lambda _: None, r"onnxscript is not installed; .*: pip install 'spikenm-compile\[demo\]'"),
    ],
)
def test_missing_tools_are_named_before_the_training(
    name: str,
    found: Callable[..., None],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(demo, name, found)
    monkeypatch.setattr(demo, "train_pair", _never)
    with pytest.raises(ToolError, match=message):
        demo.run_demo(tmp_path / "out", epochs=1, seed=0, pattern="2:4")


def test_an_artifact_that_differs_stops_the_demo(
    short_demo: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = Check("digits", "sequence", samples=1, outputs=1, spikes=0, states=0, compared=10)
    monkeypatch.setattr(demo, "verify", lambda *_: [wrong])
    with pytest.raises(PassError, match=r"the native artifact differs from its lowered graph; please report"):
        demo._prove(read_artifact(short_demo.out / "native"), torch.zeros(1, 1, 8, 8))
    assert "NOT equal" in capsys.readouterr().out


@pytest.mark.parametrize("seconds", [0.5, 4.0, pytest.param(8.0, marks=pytest.mark.long)])
def test_ctrl_c_leaves_nothing_half_written(seconds: float, tmp_path: Path) -> None:
    process = start(PROGRAM, "demo", "--epochs", "2", "--out", "digits", cwd=tmp_path)
    code, stderr = interrupt(process, lambda s: s >= seconds)
    assert (code, stderr) in ((0, ""), (130, "interrupted; no half-written artifact is left\n"))
    assert os.listdir(tmp_path) in ([], ["digits"])
    for artifact in (tmp_path / "digits").glob("*"):
        assert artifact.name in ("native", "onnx")
        read_artifact(artifact)
