"""Shared by all tests: builders beside this file can be imported, torch uses one thread, texts have golden copies."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.fx import GraphModule

sys.path.insert(0, str(Path(__file__).parent))

from step_graphs import StepGraphBuilder, randomize

from spikenm_compile.ops import Levels
from spikenm_compile.passes.base import run_pipeline
from spikenm_compile.passes.pipelines import lowering
from spikenm_compile.passes.select_kernels import DENSE_ROWS, EVENT_ROWS
from spikenm_compile.pattern import Pattern

torch.set_num_threads(1)

GOLDEN = Path(__file__).parent / "golden"
CheckGolden = Callable[[str, str], None]
"""Called with a name and a text; fails unless the text is that of tests/golden/NAME.txt."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the golden texts instead of comparing them")


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def check_golden(request: pytest.FixtureRequest) -> CheckGolden:
    def check(name: str, actual: str) -> None:
        path = GOLDEN / f"{name}.txt"
        if request.config.getoption("--update-golden"):
            GOLDEN.mkdir(exist_ok=True)
            path.write_text(actual)
            return
        if not path.exists():
            pytest.fail(f"there is no {path.name}; run pytest --update-golden and review what it writes")
        expected = path.read_text()
        if actual != expected:
            diff = difflib.unified_diff(expected.splitlines(), actual.splitlines(), "expected", "actual", lineterm="")
            pytest.fail("\n".join([f"{path.name} differs (pytest --update-golden rewrites it):", *diff]))

    return check


@pytest.fixture
def lowered() -> GraphModule:
    """A lowered graph for native code: 2×5×5 inputs, a 2:4 layer between neurons, a classifier, mean over 3 steps."""
    b = StepGraphBuilder((2, 5, 5))
    conv2 = nn.Conv2d(8, 12, 3, padding=1)
    s = b.neuron("lif1", b.layer("conv1", nn.Conv2d(2, 8, 3, padding=1), b.x))
    s = b.neuron("lif2", b.layer("conv2", conv2, s))
    graph = b.output(b.mean(b.layer("fc", nn.Linear(300, 4), b.layer("flatten", nn.Flatten(), s))))
    randomize(graph, 0)
    pattern = Pattern(2, 4)
    with torch.no_grad():
        conv2.weight.copy_(pattern.project(conv2.weight))
    graph.meta["num_steps"] = 3
    return run_pipeline(lowering(Levels(0, 255, 0.0625), pattern, (EVENT_ROWS, DENSE_ROWS)), graph)
