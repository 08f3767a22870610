from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from cli_fixtures import (
    BUILD,
    EXAMPLES,
    assert_one_error,
    interrupt,
    native_artifact,
    onnx_artifact,
    run,
    start,
    the_error,
)
from safetensors.torch import save_file

from spikenm_compile import load
from spikenm_compile.artifact.code import WEIGHTS_NAME
from spikenm_compile.artifact.directory import read_artifact
from spikenm_compile.artifact.manifest import MANIFEST_NAME
from spikenm_compile.build import main
from spikenm_compile.compiler import fold, transform
from spikenm_compile.network import load_network
from spikenm_compile.training.loop import reset_neurons

__all__ = ["native_artifact", "onnx_artifact"]

HEADER = """import torch
from torch import nn
from spikenm_compile.neurons import LIF
from spikenm_compile.training.digits import digits_net
x = torch.rand(4, 2, 8, generator=torch.Generator().manual_seed(0))
def net(*between, hidden=16):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, hidden), LIF(), *between, nn.Linear(hidden, 4), LIF())
class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.lif, self.lstm = nn.Linear(8, 16), LIF(), nn.LSTM(16, 16)
    def forward(self, x):
        return self.lstm(self.lif(self.fc(x)))[0]
def make():
"""


@pytest.fixture
def model_file(tmp_path: Path) -> Callable[[str], str]:
    """Write a file whose factory returns the given expression."""

    def write(expression: str) -> str:
        (tmp_path / "net.py").write_text(f"{HEADER}    return {expression}\n")
        return f"{tmp_path / 'net.py'}:make"

    return write


def files(folder: Path) -> dict[str, bytes]:
    """Everything below `folder`."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_without_arguments_the_carried_network_is_built_and_every_build_is_equal(
    tmp_path: Path, native_artifact: Path
) -> None:
    done = run(BUILD, cwd=tmp_path, env={"PYTHONHASHSEED": "7"})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "artifact: out/digits-native"
    assert "3 of 5 layers sparse" in done.stdout
    assert files(tmp_path / "out" / "digits-native") == files(native_artifact)
    assert os.listdir(tmp_path) == ["out"]
    assert os.listdir(tmp_path / "out") == ["digits-native"]


def test_help_names_every_option_and_target(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for word in ("--weights", "--pattern", "--target", "--out", "--emit-ir", "--dry-run", "--json", "native, onnx"):
        assert word in text


@pytest.mark.parametrize("module", ["spikenm_compile", BUILD])
def test_help_loads_nothing_heavy(tmp_path: Path, module: str) -> None:
    program = f"""
import runpy, sys
sys.argv = ["program", "--help"]
try:
    runpy.run_module({module!r}, run_name="__main__")
except SystemExit as stop:
    heavy = sorted({{"torch", "numpy", "tvm", "onnx", "onnxruntime", "rich", "safetensors"}} & set(sys.modules))
    sys.exit(f"loaded {{heavy}}" if heavy else stop.code)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: ")


@pytest.mark.parametrize("arguments", [["--frobnicate"], ["--out"], ["a.py:f", "b.py:f"]])
def test_wrong_options_exit_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "usage: python -m spikenm_compile.build" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--target", "metal"],
            r"target 'metal' is unknown; known are native, onnx, .*; choose one with --target",
        ),
        (["--pattern", "3:2"], r"pattern '3:2' keeps 3 of 2 weights; N:M needs 1 <= N < M <= 256, for example 2:4"),
        (["--pattern", "5:4"], r"pattern '5:4' keeps 5 of 4 weights; N:M needs"),
        (["--pattern", "2:x"], r"pattern '2:x' is not of the form N:M with whole numbers; write for example 2:4"),
        (["--pattern", ""], r"pattern '' is not of the form N:M"),
        (["gone.py:make"], r"model file 'gone\.py' does not exist; give FILE\.py:factory"),
        (["net.py"], r"model 'net\.py' is not of the form FILE\.py:factory; write for example my_net\.py:make"),
        (["--weights", "w.safetensors"], r"--weights needs the model they belong to: give MODEL\.py:factory too"),
        (["--emit-ir", "out/digits-native"], r"lies in the artifact 'out/digits-native', .*; give another directory"),
        (["--emit-ir", "out/digits-native/ir"], r"lies in the artifact"),
    ],
)
def test_wrong_arguments_are_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    assert re.search(message, the_error(capsys))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("net(), 1 / 0", r"model file '.*net\.py' stopped at line 16: ZeroDivisionError: division by zero; .*correct"),
        ("(_ for _ in ()).throw(ValueError('two\\n  lines'))", r"line 16: ValueError: two lines; the factory"),
        ("net()", r"make\(\) in '.*net\.py' returned Sequential; a pair \(model, example_inputs\)"),
        (
            "Recurrent(), x",
            r"layer 'lstm' is a LSTM; a step graph takes Conv1d, .*; replace it by one of these",
        ),
        ("net(nn.GELU()), x", r"layer '3' reads real values from '_2'; .* put a spiking neuron in front of it"),
        (
            "net(nn.Linear(16, 16)), x",
            r"layer '3' reads real values from '_2'; int8 layers read .* put a spiking neuron",
        ),
        ("nn.Sequential(nn.Linear(8, 4)), x", r"the model has no spiking neuron; .*; add neurons"),
        ("net(), torch.rand(4, 2, 9)", r"capture stopped in module '0' \(Linear\) .*check that the example fits"),
        ("net(), torch.full((4, 2, 8), float('nan'))", r"must hold at least one value and only finite ones; check"),
        ("net(), torch.zeros(4, 0, 8)", r"must hold at least one value"),
    ],
)
def test_wrong_networks_are_one_line(
    expression: str,
    message: str,
    model_file: Callable[[str], str],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    assert main([model_file(expression), "--out", str(out)]) == 1
    assert re.search(message, the_error(capfd))
    assert not out.exists()


def test_an_error_in_a_real_process_has_no_traceback(tmp_path: Path, model_file: Callable[[str], str]) -> None:
    done = run(BUILD, model_file("net(), torch.rand(4, 2, 9)"), cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert_one_error(done.stderr)


def test_channels_that_do_not_split_stay_dense_and_the_table_says_why(
    model_file: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([model_file("net(hidden=15), x"), "--out", str(tmp_path / "out")]) == 0
    assert "dense" in (text := capsys.readouterr().out)
    assert "15 input channels do not split into groups of 4" in text


def test_places_that_are_something_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.tex").write_text("mine")
    before = files(tmp_path)
    for out, message in [
        ("file", r"'.*/file' exists and is not an artifact; only an artifact is replaced; give another place"),
        ("folder", r"'.*/folder' exists and is not an artifact"),
        ("file/below", r"'.*/file' cannot be used \(.*\); give a place that can be read and written"),
    ]:
        assert main(["--out", str(tmp_path / out)]) == 1
        assert re.search(message, the_error(capsys))
        assert main(["--emit-ir", str(tmp_path / "file"), "--out", str(tmp_path / "new")]) == 1
        assert re.search(r"'.*/file' cannot be used", the_error(capsys))
    assert files(tmp_path) == before


def test_no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--out", str(tmp_path / "out")]
    monkeypatch.setenv("CC", "/nonexistent")
    assert main(arguments) == 1
    assert re.search(r"C compiler and CC=/nonexistent is not there; install gcc or clang, or set CC", the_error(capsys))
    monkeypatch.delenv("CC")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(arguments) == 1
    assert re.search(r"none of cc, gcc, clang is on the path; install gcc or clang", the_error(capsys))
    assert os.listdir(tmp_path) == []
    assert main([*arguments, "--target", "onnx"]) == 0


def test_json_is_the_manifest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--target", "onnx", "--json", "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert printed == (tmp_path / "out" / MANIFEST_NAME).read_text()
    assert json.loads(printed)["target"] == "onnx"


def test_json_stays_clean_where_the_model_file_prints(
    tmp_path: Path, model_file: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    source = model_file("print('hello') or (net(), x)")
    assert main([source, "--target", "onnx", "--json", "--out", str(tmp_path / "out")]) == 0
    stdout, stderr = capsys.readouterr()
    assert json.loads(stdout)["name"] == "Sequential"
    assert stderr == "hello\n"


@pytest.mark.parametrize("target", ["native", "onnx"])
def test_a_dry_run_shows_the_plan_and_writes_nothing(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CC", "/nonexistent")
    assert main(["--dry-run", "--target", target]) == 0
    table = capsys.readouterr().out
    assert main(["--dry-run", "--target", target, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert [layer["pattern"] for layer in plan] == [None, "2:4", "2:4", "2:4", None]
    assert all(layer["why"] in table for layer in plan)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("pattern", ["1:8", "1:2"])
def test_another_pattern(
    pattern: str, model_file: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, weights, out = model_file("net(nn.Linear(16, 16), LIF()), x"), tmp_path / "w.safetensors", tmp_path / "out"
    model = transform(load_network(source, None).model, pattern, report=None)
    save_file(fold(model).state_dict(), weights)
    assert main([source, "--weights", str(weights), "--pattern", pattern, "--out", str(out)]) == 0
    assert "2 of 3 layers sparse" in capsys.readouterr().out
    assert [layer.pattern for layer in read_artifact(out).manifest.layers] == [None, pattern, pattern]


@pytest.mark.parametrize(("target", "generated"), [("native", "kernels.s"), ("onnx", "sequence.onnx.txt")])
def test_every_level_is_emitted_the_same_each_time_and_without_paths(
    target: str, generated: str, tmp_path: Path
) -> None:
    texts = []
    for name in ("first", "second"):
        ir = tmp_path / name / "ir"
        assert main(["--target", target, "--emit-ir", str(ir), "--out", str(tmp_path / name / "out")]) == 0
        texts.append({path.name: path.read_text() for path in sorted(ir.iterdir())})
    first, second = texts
    names = list(first)
    assert names[:2] == ["00-captured.txt", "01-step-graph.txt"]
    assert names[-1] == f"{len(names) - 1:02d}-{generated}"
    assert [int(name[:2]) for name in names] == list(range(len(names)))
    assert all(text.strip() for text in first.values())
    assert first == second
    for name, text in first.items():
        assert not re.search(r"(?<![\w.])/(?:home|root|tmp|usr|work|opt|var)/", text), name
        assert str(tmp_path) not in text


def test_a_dry_run_has_the_levels_before_the_target(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--dry-run", "--emit-ir", str(tmp_path / "ir")]) == 0
    assert sorted(os.listdir(tmp_path / "ir"))[-1].endswith("-select-kernels.txt")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("is_folded", [True, False])
def test_trained_digits_weights_keep_their_predictions(
    is_folded: bool, model_file: Callable[[str], str], tmp_path: Path, native_artifact: Path
) -> None:
    carried, source = load_network(None, None), model_file("digits_net(), torch.zeros(1, 1, 8, 8)")
    model, x = carried.model, carried.example_inputs
    if not is_folded:
        transform(model, "2:4", report=None)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    (tmp_path / "net.py").write_text(HEADER + f"    return digits_net(), torch.tensor({x.tolist()})\n")
    assert main([source, "--weights", str(tmp_path / "w.safetensors"), "--out", str(tmp_path / "out")]) == 0
    if not is_folded:
        fold(model)
    reset_neurons(model)
    with torch.no_grad():
        expected = model.eval()(x).argmax(1).numpy()
    actual = load(tmp_path / "out").run(x.numpy()).argmax(1)
    assert np.count_nonzero(actual == expected) >= 31  # of 32: int8 weights may move one that is close
    assert (tmp_path / "out" / WEIGHTS_NAME).read_bytes() == (native_artifact / WEIGHTS_NAME).read_bytes()


def test_weights_of_a_spikingjelly_model_folded_or_not_give_the_same_artifact(tmp_path: Path) -> None:
    source = f"{EXAMPLES / 'spikingjelly_csnn.py'}:make"
    network = load_network(source, None)
    with torch.no_grad():
        for parameter in network.model.parameters():
            parameter.mul_(1.25)
    transform(network.model, "1:8", example_inputs=network.example_inputs, report=None)
    save_file(network.model.state_dict(), tmp_path / "open.safetensors")
    save_file(fold(network.model).state_dict(), tmp_path / "folded.safetensors")
    for name in ("open", "folded"):
        weights = ["--weights", str(tmp_path / f"{name}.safetensors"), "--pattern", "1:8"]
        assert main([source, *weights, "--out", str(tmp_path / name)]) == 0
    sparse = [layer.pattern for layer in read_artifact(tmp_path / "open").manifest.layers]
    assert sparse == [None, "1:8", "1:8", "1:8"]
    x = network.example_inputs.numpy()
    output = load(tmp_path / "open").run(x)
    assert np.array_equal(output, load(tmp_path / "folded").run(x))
    assert 0 < output.mean() < 1


def test_an_older_artifact_is_replaced(tmp_path: Path, native_artifact: Path, onnx_artifact: Path) -> None:
    shutil.copytree(native_artifact, tmp_path / "out")
    assert main(["--target", "onnx", "--out", str(tmp_path / "out")]) == 0
    assert files(tmp_path / "out") == files(onnx_artifact)
    assert os.listdir(tmp_path) == ["out"]


def has_partial(folder: Path) -> bool:
    return any(".partial" in name for name in os.listdir(folder))


@pytest.mark.parametrize("seconds", [0.5, 2.0, None])
def test_ctrl_c_leaves_the_older_artifact_and_nothing_else(
    seconds: float | None, tmp_path: Path, native_artifact: Path, onnx_artifact: Path
) -> None:
    shutil.copytree(onnx_artifact, tmp_path / "out")
    process = start(BUILD, "--out", "out", cwd=tmp_path)
    wait: Callable[[float], bool] = lambda s: has_partial(tmp_path) if seconds is None else s >= seconds  # noqa: E731
    code, stderr = interrupt(process, wait)
    assert os.listdir(tmp_path) == ["out"]
    if code == 0:
        assert files(tmp_path / "out") == files(native_artifact)
        return
    assert (code, stderr) == (130, "interrupted; no half-written artifact is left\n")
    assert files(tmp_path / "out") == files(onnx_artifact)


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = start(BUILD, "--target", "onnx", "--json", cwd=tmp_path, stdout=writing)
    os.close(writing)
    _, stderr = process.communicate(timeout=120)
    assert (process.returncode, stderr) == (141, "")
    read_artifact(tmp_path / "out" / "digits-onnx")


def test_the_bar_is_on_the_terminal_and_the_result_in_the_pipe(tmp_path: Path) -> None:
    screen, terminal = os.openpty()
    process = start(BUILD, "--dry-run", "--json", cwd=tmp_path, stderr=terminal)
    os.close(terminal)
    shown: list[bytes] = []
    reader = threading.Thread(target=_read_all, args=(screen, shown))
    reader.start()
    stdout, _ = process.communicate(timeout=120)
    reader.join()
    os.close(screen)
    assert json.loads(stdout)[0]["name"] == "block1.conv"
    assert b"plan: " in b"".join(shown)
    assert b"packed" not in b"".join(shown)


def _read_all(screen: int, into: list[bytes]) -> None:
    try:
        while chunk := os.read(screen, 4096):
            into.append(chunk)
    except OSError:
        return  # how Linux tells that the last writer has closed a terminal
