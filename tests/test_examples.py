from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest
from cli_fixtures import BUILD, EXAMPLES, PROGRAM, run

from spikenm_compile import load
from spikenm_compile.artifact.tensors import read_tensors
from spikenm_compile.build import main as build_main
from spikenm_compile.cli import main
from spikenm_compile.package import VECTORS_NAME

FILES = sorted(EXAMPLES.glob("*.py"))


def test_the_examples_are_there() -> None:
    assert {file.stem for file in FILES} >= {"handwritten_inline", "handwritten_mlp", "spikingjelly_csnn"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_commands_of_a_docstring_build_and_prove_a_network_that_spikes(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    text = ast.get_docstring(ast.parse(file.read_text()))
    assert text is not None
    lines = re.findall(r"^ *python -m (spikenm_compile\S*) (.*)$", text, re.MULTILINE)
    assert [module for module, _ in lines] == [BUILD, PROGRAM, PROGRAM, BUILD]
    (tmp_path / "examples").symlink_to(EXAMPLES)
    monkeypatch.chdir(tmp_path)
    for module, arguments in lines[:3]:
        assert (build_main if module == BUILD else main)(shlex.split(arguments)) == 0
    stdout, stderr = capfd.readouterr()
    assert "equal bit for bit to the lowered graph" in stdout
    assert "spikes that differ from the float model" in stdout
    assert stderr == ""
    (artifact,) = (tmp_path / "out").iterdir()
    vectors = read_tensors(artifact / VECTORS_NAME)
    shares = {name: vectors[name].mean() for name in vectors if name.startswith("spikes.")}
    assert len(shares) >= 3
    assert all(0.01 < share < 0.9 for share in shares.values()), shares


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_an_example_runs_from_its_artifact_for_onnx_too(file: Path, tmp_path: Path) -> None:
    assert build_main([f"{file}:make", "--target", "onnx", "--out", str(tmp_path / "artifact")]) == 0
    vectors = read_tensors(tmp_path / "artifact" / VECTORS_NAME)
    assert (load(tmp_path / "artifact").run(vectors["input"]) == vectors["output"]).all()


def test_spikingjelly_in_a_process_of_its_own_leaves_stderr_clean(tmp_path: Path) -> None:
    done = run(BUILD, f"{EXAMPLES / 'spikingjelly_csnn.py'}:make", "--dry-run", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("layer ")
