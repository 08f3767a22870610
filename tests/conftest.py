"""Shared by all tests: builders beside this file can be imported, torch uses one thread, golden texts can be compared."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
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
