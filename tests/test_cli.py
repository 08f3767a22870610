from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cli_fixtures import EXAMPLES, PROGRAM, native_artifact, onnx_artifact, resign, run, start, the_error

from spikenm_compile import doctor, load
from spikenm_compile.artifact.directory import read_artifact
from spikenm_compile.artifact.manifest import MANIFEST_NAME
from spikenm_compile.artifact.tensors import read_tensors, write_tensors
from spikenm_compile.cli import main
from spikenm_compile.console import run_command
from spikenm_compile.errors import ArtifactError, InputError, SpikenmError, ToolError
from spikenm_compile.package import VECTORS_NAME

__all__ = ["native_artifact", "onnx_artifact"]


@pytest.fixture(params=["native", "onnx"])
def artifact(request: pytest.FixtureRequest, tmp_path: Path, native_artifact: Path, onnx_artifact: Path) -> Path:
    """A copy of the carried network's artifact that a test may spoil."""
    source = {"native": native_artifact, "onnx": onnx_artifact}[request.param]
    return Path(shutil.copytree(source, tmp_path / "artifact"))


def test_help_names_every_command_and_build(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for word in ("demo", "train", "verify", "inspect", "doctor", "python -m spikenm_compile.build", "Exit codes"):
        assert word in text


@pytest.mark.parametrize(
    "arguments", [[], ["frobnicate"], ["verify"], ["inspect", "a", "--frob"], ["demo", "--seed", "x"]]
)
def test_wrong_arguments_exit_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("usage: python -m spikenm_compile")


def test_verify_proves_the_carried_network(artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(artifact)]) == 0
    stdout, stderr = capsys.readouterr()
    assert "equal bit for bit to the lowered graph" in stdout
    assert "spikes that differ from the float model, layer by layer:" in stdout
    assert "block4.lif" in stdout
    assert stderr == ""


def test_verify_reports_accuracy_on_the_digits(native_artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(native_artifact), "--digits"]) == 0
    rows = re.findall(r"^(float model|lowered graph|artifact) +([\d.]+)%$", capsys.readouterr().out, re.MULTILINE)
    shares = {name: float(share) for name, share in rows}
    assert shares["lowered graph"] == shares["artifact"]
    assert min(shares.values()) > 98
    assert len(shares) == 3


def test_verify_fails_where_a_vector_is_not_what_the_code_computes(
    artifact: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vectors = read_tensors(artifact / VECTORS_NAME)
    vectors["output"][0, 0] += 1
    before = read_artifact(artifact).manifest
    write_tensors(artifact / VECTORS_NAME, vectors)
    digest = hashlib.sha256((artifact / VECTORS_NAME).read_bytes()).hexdigest()
    resign(artifact, before, files={**before.files, VECTORS_NAME: digest})
    assert main(["verify", str(artifact)]) == 1
    stdout, stderr = capsys.readouterr()
    assert "NOT equal to the lowered graph" in stdout
    assert stderr == ""


def test_inspect_shows_what_build_showed(native_artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(native_artifact)]) == 0
    text = capsys.readouterr().out
    assert text.startswith("digits: [1, 8, 8] -> [10], T=4, the same input at each step")
    assert "3 of 5 layers sparse" in text
    assert "model.so" in text


def test_inspect_json_is_the_manifest(artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(artifact), "--json"]) == 0
    printed = capsys.readouterr().out
    assert printed == (artifact / MANIFEST_NAME).read_text()
    assert json.loads(printed)["name"] == "digits"


@pytest.mark.parametrize("command", ["inspect", "verify"])
def test_artifacts_that_are_none(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    for name, message in [
        ("gone", r"artifact '.*gone' does not exist; an artifact is a directory; give the one that build wrote"),
        ("file", r"artifact '.*file' is a file; an artifact is a directory"),
        ("folder", r"artifact '.*folder' has no readable manifest\.json"),
    ]:
        assert main([command, str(tmp_path / name)]) == 1
        assert re.search(message, the_error(capsys))


def test_one_flipped_byte_anywhere_is_refused_and_the_file_named(
    artifact: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in sorted(artifact.iterdir()):
        content = file.read_bytes()
        for position in {0, len(content) // 4, len(content) // 2, len(content) * 3 // 4, len(content) - 1}:
            file.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
            assert_refused(artifact, file.name, capsys)
        file.write_bytes(content)
    assert main(["inspect", str(artifact)]) == 0


def test_truncated_longer_missing_and_unlisted_files_are_refused(
    artifact: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in sorted(artifact.iterdir()):
        content = file.read_bytes()
        for changed in (b"", content[:-1], content[: len(content) // 2], content + b"\0"):
            file.write_bytes(changed)
            assert_refused(artifact, file.name, capsys)
        file.unlink()
        assert_refused(artifact, file.name, capsys)
        file.write_bytes(content)
    (artifact / "notes.txt").touch()
    assert_refused(artifact, "notes.txt", capsys)


def assert_refused(artifact: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """By inspect, verify and load alike, in one sentence with the file's name."""
    for command in ("inspect", "verify"):
        assert main([command, str(artifact)]) == 1
        assert name in the_error(capsys)
    with pytest.raises(ArtifactError, match=re.escape(name)):
        load(artifact)


def test_wrong_inputs_of_an_artifact(artifact: Path) -> None:
    model = load(artifact)
    x = np.zeros((2, 1, 8, 8), np.float32)
    for wrong, message in [
        (x.astype(np.float64), r"the input has dtype float64; float32 is supported; use x\.astype"),
        (x[0], r"the input has shape \[1, 8, 8\]; \[B, 1, 8, 8\] is expected"),
        (x[:, :, :4], r"the input has shape \[2, 1, 4, 8\]"),
        (x[:0], r"and so no value; give at least one sample"),
    ]:
        with pytest.raises(InputError, match=message):
            model.run(wrong)
    assert model.run(x).shape == (2, 10)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ({"machine": "riscv64"}, r"artifact 'digits' is built for riscv64, but this machine is .*; build it for"),
        (
            {"cpu_features": ["amx_teleport"]},
            r"uses the processor features amx_teleport, which this machine lacks; build",
        ),
    ],
)
def test_artifacts_for_other_machines(
    code: dict[str, object],
    message: str,
    native_artifact: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    artifact = Path(shutil.copytree(native_artifact, tmp_path / "artifact"))
    manifest = read_artifact(artifact).manifest
    resign(artifact, manifest, code={**manifest.code, **code})
    assert main(["verify", str(artifact)]) == 1
    assert re.search(message, the_error(capsys))
    assert main(["inspect", str(artifact)]) == 0


def test_a_float_model_that_the_artifact_was_not_built_from(
    native_artifact: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(native_artifact), f"{EXAMPLES / 'handwritten_mlp.py'}:make"]) == 1
    assert re.search(
        r"was not built from SpikingMlp: .* differ; give the model that it was built from", the_error(capsys)
    )


def test_weights_are_not_ignored_without_a_model(
    native_artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact = Path(shutil.copytree(native_artifact, tmp_path / "artifact"))
    resign(artifact, read_artifact(artifact).manifest, name="mine")
    assert main(["verify", str(artifact), "--weights", "w.safetensors"]) == 1
    assert "--weights needs the model they belong to" in the_error(capsys)


def test_digits_for_a_network_of_another_shape(
    native_artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact = Path(shutil.copytree(native_artifact, tmp_path / "artifact"))
    manifest = read_artifact(artifact).manifest
    resign(artifact, manifest, input=replace(manifest.input, shape=(3, 8, 8)))
    assert main(["verify", str(artifact), "--digits"]) == 1
    assert re.search(
        r"is \[3, 8, 8\] -> \[10\], but the digits need \[1, 8, 8\] -> \[10\] .*--digits", the_error(capsys)
    )


def test_doctor_looks_at_everything(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(doctor, "smoke_test", lambda: None)
    assert main(["doctor"]) == 0
    rows = [re.split(" {2,}", line) for line in capsys.readouterr().out.splitlines()[2:]]
    states = {row[0]: row[1] for row in rows}
    for name in ("python", "torch", "numpy", "onnx", "onnxruntime", "safetensors", "rich", "apache-tvm", "C compiler"):
        assert states[name] == "ok", name
    assert {
        "scikit-learn",
        "spikingjelly",
        "CPU",
        "target arm",
        "qemu-arm",
        "CUDA compiler",
        "NVIDIA GPU",
    } <= states.keys()


def test_doctor_names_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        raise ToolError("the pair crashed; run pip install")

    monkeypatch.setattr(doctor, "smoke_test", broken)
    monkeypatch.setattr(doctor, "PACKAGES", ("no-such-package",))
    monkeypatch.setenv("CC", "/nonexistent")
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert re.search(r"^no-such-package +MISSING +run pip install no-such-package$", text, re.MULTILINE)
    assert re.search(r"^apache-tvm +BROKEN +the pair crashed; run pip install$", text, re.MULTILINE)
    assert re.search(
        r"^C compiler +MISSING +CC=/nonexistent is not there; unset CC, or install gcc or clang", text, re.MULTILINE
    )
    monkeypatch.delenv("CC")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["doctor"]) == 0
    assert re.search(r"^C compiler +MISSING +install gcc or clang", capsys.readouterr().out, re.MULTILINE)


def failing(error: BaseException) -> Callable[[], int]:
    def command() -> int:
        raise error

    return command


def test_errors_of_many_lines_become_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(failing(SpikenmError("first\n  second\n\nthird"))) == 1
    assert the_error(capsys) == "first second third"


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(lambda: len((tmp_path / "gone").read_text())) == 1
    assert re.search(r"'.*/gone' cannot be used \(No such file or directory\); give a place", the_error(capsys))


@pytest.mark.parametrize("error", [OSError("no file in it"), KeyError("ours"), AssertionError()])
def test_mistakes_of_our_own_keep_their_traceback(error: Exception) -> None:
    with pytest.raises(type(error)):
        run_command(failing(error))


def test_ctrl_c_is_130(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(failing(KeyboardInterrupt())) == 130
    assert capsys.readouterr() == ("", "interrupted; no half-written artifact is left\n")


@pytest.fixture
def heeds_ctrl_c() -> Iterator[None]:
    """A shell starts background jobs, and so maybe this run, with Ctrl-C ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeds_ctrl_c")
def test_what_a_library_makes_of_ctrl_c_is_130_too(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> int:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt as error:
            raise ImportError("half of a package") from error
        return 0

    assert run_command(command) == 130
    assert capsys.readouterr().err == "interrupted; no half-written artifact is left\n"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_background_job_that_ignores_ctrl_c_goes_on() -> None:
    def ignored() -> int:
        signal.raise_signal(signal.SIGINT)
        return 0

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert run_command(ignored) == 0
    finally:
        signal.signal(signal.SIGINT, before)


def test_ctrl_c_inside_generated_code_is_130_too(tmp_path: Path) -> None:
    program = """
import sys
from spikenm_compile.console import run_command
sys.exit(run_command(lambda: exec("raise KeyboardInterrupt")))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "interrupted; no half-written artifact is left\n")


def test_a_reader_that_goes_away_is_no_error(native_artifact: Path, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = start(PROGRAM, "inspect", str(native_artifact), cwd=tmp_path, stdout=writing)
    os.close(writing)
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (141, "")


def test_a_real_process_without_command(tmp_path: Path) -> None:
    done = run(PROGRAM, cwd=tmp_path)
    assert done.returncode == 2
    assert "the following arguments are required: COMMAND" in done.stderr


def test_an_environment_with_numpy_alone_runs_the_artifact(native_artifact: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    pip = [str(tmp_path / "venv" / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    got_numpy = subprocess.run([*pip, "numpy"], capture_output=True, text=True, check=False)
    if got_numpy.returncode != 0:
        pytest.skip(f"pip cannot install numpy here: {got_numpy.stderr.strip().splitlines()[-1]}")
    subprocess.run([*pip, "--no-deps", str(EXAMPLES.parent)], check=True)
    vectors = read_tensors(native_artifact / VECTORS_NAME)
    np.save(tmp_path / "x.npy", vectors["input"])
    program = """
import sys
import numpy
import spikenm_compile
model = spikenm_compile.load(sys.argv[1])
numpy.save("y.npy", model.run(numpy.load("x.npy")))
state = model.initial_state(batch=8)
for _ in range(model.manifest.num_steps):
    output, state = model.step(numpy.load("x.npy"), state)
numpy.save("stepped.npy", output)
sys.exit("torch" in sys.modules)
"""
    command = [str(tmp_path / "venv" / "bin" / "python"), "-I", "-c", program, str(native_artifact)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert np.array_equal(np.load(tmp_path / "y.npy"), vectors["output"])
    assert np.array_equal(np.load(tmp_path / "stepped.npy"), vectors["output"])
