"""The README's words work as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from spikenm_compile.build import make_parser as build_parser
from spikenm_compile.cli import make_parser
from spikenm_compile.training.digits import digits_net

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    every = re.findall(r"^```(\w*)\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    return [text for found, text in every if found == language]


def test_the_python_lines_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("python")
    digit = np.random.default_rng(0).random((1, 1, 8, 8), dtype=np.float32)
    names = {"MySpikingNet": digits_net, "example_inputs": torch.rand(4, 1, 8, 8), "x": digit, "x_t": digit}
    exec(compile(code, "README.md", "exec"), names)
    assert names["logits"].shape == (1, 10)  # type: ignore[attr-defined]


def test_the_shell_lines_parse() -> None:
    lines = [line.split("#")[0].split() for block in blocks("") for line in block.splitlines()]
    commands = [words[3:] for words in lines if words[:3] == ["python", "-m", "spikenm_compile"]]
    builds = [words[3:] for words in lines if words[:3] == ["python", "-m", "spikenm_compile.build"]]
    assert len(commands) == 5
    assert len(builds) == 2
    for words in commands:
        make_parser().parse_args(words)
    assert [build_parser().parse_args(words).target for words in builds] == ["native", "arm"]


def test_the_files_it_names_are_there() -> None:
    for name in re.findall(r"\]\((docs/[^)]+)\)", README):
        assert (ROOT / name).is_file(), name
    table = README.partition("## Where things are")[2]
    for cell in re.findall(r"^\| (.*?) \|", table, re.MULTILINE):
        for name in re.findall(r"`([^`]+)`", cell):
            found = [ROOT / name, ROOT / "spikenm_compile" / name]
            assert any(path.exists() for path in found), name
