"""Which module may import which, what importing loads, and what stands in files."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import spikenm_compile

PACKAGE = Path(spikenm_compile.__file__).parent
ROOT = PACKAGE.parent
SOURCES = sorted(PACKAGE.rglob("*.py"))

ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "pattern": {"errors"},
    "phases": {"pattern"},
    "weight_types": {"errors"},
    "marks": {"weight_types"},
    "levels": set(),
    "equations": {"errors"},
    "neurons": {"errors", "equations", "levels"},
    "ops": {"levels", "neurons", "pattern"},
    "graph": {"errors", "levels", "ops"},
    "costs": {"errors", "pattern"},
    "layer_calls": {"costs", "ops", "graph"},
    "observation": {"ops", "graph"},
    "frontend": {"errors", "levels", "equations", "neurons", "ops", "graph"},
    # the activity target asks the frontend what a neuron is
    "learning": {"errors", "pattern", "phases", "weight_types", "marks", "report", "frontend"},
    # insert-mask-learners asks the frontend what a neuron is, and gives layers their learners
    "passes": {
        "errors",
        "levels",
        "pattern",
        "weight_types",
        "marks",
        "ops",
        "graph",
        "costs",
        "layer_calls",
        "observation",
        "frontend",
        "learning",
    },
    # the kernel families are named in passes
    "lowering": {"errors", "costs", "levels", "equations", "pattern", "neurons", "ops", "graph", "passes"},
    # a target describes its code in the terms of the artifact
    "targets": {"errors", "costs", "graph", "passes", "lowering", "artifact"},
    "artifact": {"errors", "pattern"},
    "runtime": {"errors", "artifact"},
    "report": {"artifact"},
    # describes whole networks, which only the frontend knows
    "float_package": {"errors", "pattern", "frontend", "graph", "package", "targets", "artifact"},
    "package": {"errors", "pattern", "ops", "graph", "lowering", "targets", "artifact"},
    "closeness": {"runtime", "report"},
    # compiles an artifact that is sources
    "verification": {"errors", "ops", "graph", "targets", "package", "artifact", "runtime", "report", "closeness"},
    "planning": {
        *("errors", "pattern", "ops", "graph", "costs", "frontend", "learning", "passes", "lowering", "targets"),
        *("weight_types", "package", "float_package", "artifact"),
    },
    "bit_widths": {"errors", "weight_types", "marks", "frontend", "learning", "passes", "report"},
    "pattern_choice": {"errors", "pattern", "frontend", "learning", "passes", "report"},
    "compiler": {
        *("errors", "pattern", "weight_types", "graph", "frontend", "learning", "passes", "targets", "artifact"),
        *("package", "float_package", "planning"),
    },
}
"""Part of the package -> the parts it may import; none of them knows of the parts in `TOP`."""

TOP = {
    "nir",
    "__init__",
    "__main__",
    "build",
    "cli",
    "console",
    "demo",
    "doctor",
    "float_proof",
    "network",
    "proof",
    "timing",
    "training",
    "tuning",
}
"""What users start: may import every part."""

NUMPY_ONLY = {"artifact", "runtime", "errors", "pattern", "phases"}
"""Parts that run an artifact: of third parties they import numpy, and ONNX Runtime where an ONNX artifact is run."""


def part_of(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imported(path: Path, *, at_run_time: bool = False) -> Iterator[str]:
    """Modules that a file imports; `from spikenm_compile import x` counts as spikenm_compile.x."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if at_run_time and id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}:{node.lineno} is a relative import"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_parts(path: Path) -> set[str]:
    found = {name.split(".")[1] for name in imported(path) if name.startswith("spikenm_compile.")}
    return found - {part_of(path)}


def test_every_part_of_the_package_has_its_place() -> None:
    assert {part_of(path) for path in SOURCES} == ALLOWED.keys() | TOP


def test_the_table_of_imports_has_no_cycle() -> None:
    seen: set[str] = set()
    left = dict(ALLOWED)
    while left:
        ready = {part for part, needs in left.items() if needs <= seen}
        assert ready, f"these import one another: {sorted(left)}"
        seen |= ready
        left = {part: needs for part, needs in left.items() if part not in ready}


@pytest.mark.parametrize("part", ALLOWED)
def test_imports_point_one_way(part: str) -> None:
    wrong = {
        str(path.relative_to(PACKAGE)): sorted(own_parts(path) - ALLOWED[part])
        for path in SOURCES
        if part_of(path) == part and own_parts(path) - ALLOWED[part]
    }
    assert not wrong


@pytest.mark.parametrize("part", sorted(NUMPY_ONLY))
def test_running_an_artifact_needs_numpy_only(part: str) -> None:
    known = set(sys.stdlib_module_names) | {"spikenm_compile", "numpy"}
    for path in SOURCES:
        if part_of(path) == part:
            foreign = {name.split(".")[0] for name in imported(path, at_run_time=True)} - known
            assert foreign <= ({"onnxruntime"} if path.name == "onnx.py" else set()), path


def test_no_import_is_relative() -> None:
    for path in [*SOURCES, *(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]:
        list(imported(path))


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_every_module_says_what_it_is(path: Path) -> None:
    text = ast.get_docstring(ast.parse(path.read_text()))
    if path.name != "__main__.py":
        assert text is not None
        assert text[0].isupper() or text[0] in "`'"
    assert text


def loaded_by(program: str) -> set[str]:
    """Packages that a program loads in a process of its own."""
    script = f"import sys\n{program}\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


HEAVY = {"torch", "tvm", "onnx", "onnxruntime", "sklearn", "spikingjelly", "safetensors"}
HELP = """
from spikenm_compile.{module} import main
try:
    main(["--help"])
except SystemExit as stop:
    assert stop.code == 0
"""


@pytest.mark.parametrize(
    "program",
    [
        "import spikenm_compile\nspikenm_compile.Pattern.parse('2:4')\ndir(spikenm_compile)",
        "import spikenm_compile.runtime\nimport spikenm_compile.runtime.native",
        "import spikenm_compile\nspikenm_compile.load",
        HELP.format(module="cli"),
        HELP.format(module="build"),
    ],
    ids=["package", "runtime", "load", "help", "help of build"],
)
def test_nothing_heavy_is_loaded(program: str) -> None:
    loaded = loaded_by(program)
    assert "spikenm_compile" in loaded
    assert not loaded & HEAVY


def test_the_check_for_heavy_packages_works() -> None:
    assert loaded_by("import spikenm_compile\nspikenm_compile.fold") & HEAVY


@pytest.mark.parametrize("module", ["spikenm_compile", "spikenm_compile.build"])
def test_help_of_the_programs(module: str) -> None:
    done = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"usage: python -m {module}")
    assert done.stderr == ""


def test_public_names() -> None:
    assert spikenm_compile.__all__ == [
        "Pattern",
        "SpikenmError",
        "bit_width_report",
        "choose_patterns",
        "compile_model",
        "fold",
        "install_clock_driven",
        "load",
        "lower",
        "param_groups",
        "register_neuron",
        "transform",
        "verify",
    ]
    assert dir(spikenm_compile) == sorted(spikenm_compile.__all__)


@pytest.mark.parametrize("name", spikenm_compile.__all__)
def test_every_public_name_loads_and_has_a_docstring(name: str) -> None:
    value = getattr(spikenm_compile, name)
    assert callable(value)
    assert value.__name__ == name
    assert value.__doc__


def test_no_module_hides_a_public_name() -> None:
    modules = {path.stem if path.parent == PACKAGE else path.relative_to(PACKAGE).parts[0] for path in SOURCES}
    assert not modules & set(spikenm_compile.__all__)


def test_every_module_can_be_imported() -> None:
    for path in SOURCES:
        if path.name != "__main__.py":
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            assert importlib.import_module(name).__name__ == name


def test_an_unknown_name_is_told_what_there_is() -> None:
    with pytest.raises(
        AttributeError,
        match=r"no attribute 'compile'; it has Pattern, SpikenmError, bit_width_report, choose_patterns",
    ):
        spikenm_compile.compile  # noqa: B018


HOMES = ("/" + "work/", "/" + "home/", "/" + "root/", "/" + "Users/", "/" + "tmp/")
"""Beginnings of paths that exist on one machine only; put together here so that this file holds none."""
TEXTS = {".py", ".md", ".toml", ".txt", ".json", ".yml", ".yaml", ".c", ".h", ""}
IGNORED = {".git", ".venv", "out", "build", "dist", "shared", "__pycache__"}


def repository_texts() -> Iterator[Path]:
    for path in sorted(ROOT.rglob("*")):
        parts = set(path.relative_to(ROOT).parts)
        is_ignored = parts & IGNORED or any(part.endswith(("_cache", ".egg-info")) for part in parts)
        if path.is_file() and path.suffix in TEXTS and not is_ignored:
            yield path


def test_no_file_names_a_place_on_one_machine() -> None:
    texts = {path: path.read_text() for path in repository_texts()}
    assert ROOT / "pyproject.toml" in texts
    found = [f"{path.relative_to(ROOT)}: {home}" for path, text in texts.items() for home in HOMES if home in text]
    assert not found
