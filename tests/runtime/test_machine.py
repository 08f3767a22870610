import platform
from pathlib import Path

import pytest

from spikenm_compile.errors import TargetError
from spikenm_compile.runtime.machine import check_machine, cpu_features

X86 = "processor\t: 0\nmodel name\t: x\nflags\t\t: fpu pni sse4_1 avx2 abm avx512_vnni avx512f\n\nflags\t: other\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp\n"


@pytest.fixture
def x86(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    (tmp_path / "cpuinfo").write_text(X86)
    return tmp_path / "cpuinfo"


def test_features_under_either_spelling(x86: Path) -> None:
    check_machine("a", "x86_64", ["avx512_vnni", "avx512vnni", "sse4.1", "sse4_1", "AVX2", "lzcnt", "sse3"], x86)
    check_machine("a", "AMD64", [], x86)


def test_missing_features_are_all_named(x86: Path) -> None:
    with pytest.raises(
        TargetError, match="artifact 'a' uses the processor features amx_int8, other, which this machine"
    ):
        check_machine("a", "x86_64", ["avx2", "amx_int8", "other"], x86)


def test_arm_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    (tmp_path / "cpuinfo").write_text(ARM)
    check_machine("a", "aarch64", ["neon", "dotprod", "asimd"], tmp_path / "cpuinfo")
    with pytest.raises(TargetError, match="features sve, which"):
        check_machine("a", "aarch64", ["sve"], tmp_path / "cpuinfo")


def test_other_machine(x86: Path) -> None:
    with pytest.raises(
        TargetError, match="'a' is built for aarch64, but this machine is x86_64; build it for a target of"
    ):
        check_machine("a", "aarch64", [], x86)


def test_systems_that_do_not_tell(x86: Path, tmp_path: Path) -> None:
    check_machine("a", "x86_64", [], tmp_path / "none")
    with pytest.raises(
        TargetError, match=r"cannot be read from .*none \(No such file or directory\); .* build for onnx"
    ):
        check_machine("a", "x86_64", ["avx2"], tmp_path / "none")


def test_no_line_of_features(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor : 0\n")
    assert cpu_features(tmp_path / "cpuinfo") == frozenset()


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="this system has no /proc/cpuinfo")
def test_this_machine_has_features() -> None:
    assert len(cpu_features()) > 3
