"""Whether TVM works, found out in another process."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from spikenm_compile.errors import ToolError
from spikenm_compile.targets import toolchain
from spikenm_compile.targets.toolchain import INSTALL, PINNED, check_tvm, installed, smoke_test

CRASH = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"


@pytest.fixture(autouse=True)
def _fresh_check() -> Iterator[None]:
    check_tvm.cache_clear()
    yield
    check_tvm.cache_clear()


def pair() -> str:
    return re.escape(" with ".join(f"{package} {installed(package)}" for package in PINNED))


def test_the_smoke_test_passes_with_the_installed_pair() -> None:
    smoke_test()
    check_tvm()


def test_a_crash_names_the_pair_and_what_to_install() -> None:
    with pytest.raises(ToolError, match=f"^{pair()} crashed with signal 11 in a smoke test; run {re.escape(INSTALL)}$"):
        smoke_test(CRASH)


@pytest.mark.parametrize(("program", "code"), [("raise SystemExit(3)", 3), ("import no_such_package", 1)])
def test_a_failure_names_the_exit_code(program: str, code: int) -> None:
    with pytest.raises(ToolError, match=f"^{pair()} failed with exit code {code} in a smoke test; run pip install"):
        smoke_test(program)


def test_another_pair_has_to_pass_the_smoke_test(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    monkeypatch.setattr(toolchain, "smoke_test", lambda: ran.append("smoke"))
    check_tvm()
    assert ran == []
    check_tvm.cache_clear()
    monkeypatch.setattr(toolchain, "installed", lambda package: "0.1.15" if package == "apache-tvm-ffi" else "0.27.0")
    check_tvm()
    assert ran == ["smoke"]


@pytest.mark.parametrize("package", PINNED)
def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setattr(toolchain, "installed", lambda name: None if name == package else "1")
    with pytest.raises(ToolError, match=f"^{package} is not installed; native code needs it: run {re.escape(INSTALL)}"):
        check_tvm()


def test_a_failed_check_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(toolchain, "installed", lambda _: None)
        with pytest.raises(ToolError):
            check_tvm()
    check_tvm()


def test_versions_of_packages() -> None:
    assert installed("numpy")
    assert installed("no-such-package-at-all") is None
