"""The pipeline as a whole, and one name for each pass: name, class, file and test."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

import pytest
from conftest import CheckGolden

import spikenm_compile.passes as passes
from spikenm_compile.ops import SPIKES
from spikenm_compile.passes.base import Pass, check_order
from spikenm_compile.passes.pipelines import lowering
from spikenm_compile.pattern import Pattern

FILES = sorted(p.stem for p in Path(passes.__path__[0]).glob("*.py") if p.stem not in ("__init__", "base", "pipelines"))
WORDS = {"batchnorm": "BatchNorm", "nm": "NM"}
"""Words of a name that a class spells with more than one capital."""


def pass_of(file: str) -> type[Pass]:
    module = importlib.import_module(f"spikenm_compile.passes.{file}")
    found = [
        member
        for _, member in inspect.getmembers(module, inspect.isclass)
        if issubclass(member, Pass) and member.__module__ == module.__name__
    ]
    assert len(found) == 1, f"{file}.py holds {len(found)} passes"
    return found[0]


def test_names_of_the_pipeline(check_golden: CheckGolden) -> None:
    names = [p.name for p in lowering(SPIKES, Pattern(2, 4), ("event-rows",))]
    check_golden("pipeline-lowering", "\n".join(names) + "\n")


def test_the_pipeline_is_in_order() -> None:
    check_order(lowering(SPIKES, Pattern(2, 4), ("event-rows",)))


@pytest.mark.parametrize("file", FILES)
def test_file_class_name_and_test_correspond(file: str) -> None:
    words = file.split("_")
    kind = pass_of(file)
    assert kind.name == "-".join(words)
    assert kind.__name__ == "".join(WORDS.get(word, word.capitalize()) for word in words)
    assert (Path(__file__).parent / f"test_{file}.py").is_file()


@pytest.mark.parametrize("file", FILES)
def test_a_pass_shows_its_rewrite(file: str) -> None:
    text = (pass_of(file).__doc__ or "") + (inspect.getmodule(pass_of(file)).__doc__ or "")
    assert re.search(r"Given:.*Result:", text, re.DOTALL)


def test_every_pass_of_the_folder_is_in_a_pipeline_or_transforms() -> None:
    used = {type(p) for p in lowering(SPIKES, Pattern(2, 4), ())}
    assert {pass_of(file).__name__ for file in FILES if pass_of(file) not in used} == {"InsertMaskLearners"}
