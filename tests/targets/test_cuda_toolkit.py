"""Finding and calling the CUDA compiler; what it makes for each architecture is looked at in tests/lowering/cuda."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from spikenm_compile.errors import ToolError
from spikenm_compile.targets.cuda_toolkit import FLAGS, Toolkit, find_toolkit, missing_toolkit, targets_of
from spikenm_compile.targets.gpu import GPUS, portable_registers, portable_shared_bytes


def program(path: Path, text: str = "exit 0") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without a CUDA compiler."""
    monkeypatch.delenv("CUDA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setattr(sys, "path", [str(tmp_path / "packages")])
    return tmp_path


def test_no_compiler(nothing: Path) -> None:
    assert find_toolkit() is None
    assert "CUDA_HOME is not set and neither the path nor this Python's packages hold nvcc" in missing_toolkit()


def test_the_order_of_search(nothing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packaged = program(nothing / "packages/nvidia/cu13/bin/nvcc")
    assert find_toolkit() == Toolkit(packaged)
    on_path = program(nothing / "path/nvcc")
    assert find_toolkit() == Toolkit(on_path)
    home = program(nothing / "home/bin/nvcc")
    monkeypatch.setenv("CUDA_HOME", str(nothing / "home"))
    assert find_toolkit() == Toolkit(home)
    monkeypatch.setenv("CUDA_HOME", str(nothing / "elsewhere"))
    assert find_toolkit() == Toolkit(on_path)
    assert "CUDA_HOME=" in missing_toolkit()


def test_the_release(tmp_path: Path) -> None:
    text = 'echo "nvcc: NVIDIA compiler"; echo "Cuda compilation tools, release 13.0, V13.0.88"'
    assert Toolkit(program(tmp_path / "nvcc", text)).version() == "13.0"


def test_the_command(tmp_path: Path) -> None:
    nvcc = program(tmp_path / "nvcc", 'for last; do :; done; echo "$@" > "$last"')
    Toolkit(nvcc).compile(tmp_path / "a.cu", tmp_path / "a.fatbin")
    words = (tmp_path / "a.fatbin").read_text().split()
    assert {*FLAGS, "-fatbin"} <= set(words)
    assert "-fmad=false" in words
    assert not any("fast" in word for word in words)
    assert "-gencode=arch=compute_80,code=[sm_80,compute_80]" in words


def test_an_error_of_the_compiler(tmp_path: Path) -> None:
    nvcc = program(
        tmp_path / "nvcc", 'echo "a.cu(3): warning: w" >&2; echo "a.cu(7): error: no such thing" >&2; exit 2'
    )
    with pytest.raises(
        ToolError, match=r"nvcc failed: a\.cu\(7\): error: no such thing; kernels are compiled with CUDA"
    ):
        Toolkit(nvcc).compile(tmp_path / "a.cu", tmp_path / "a.fatbin")


def test_only_the_first_architecture_gets_ptx() -> None:
    options = targets_of(GPUS)
    assert len(options) == len(GPUS)
    assert [option for option in options if "[" in option] == options[:1]
    assert options[-1] == "-gencode=arch=compute_120,code=sm_120"


def test_facts_hold_on_every_gpu() -> None:
    assert portable_shared_bytes() == 99 * 1024
    assert portable_registers(256) == 255
    assert portable_registers(512) == 128
    assert [gpu.capability for gpu in GPUS] == [(8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0)]


@pytest.mark.skipif(find_toolkit() is None, reason="no CUDA compiler")
def test_a_kernel_is_compiled(tmp_path: Path) -> None:
    (tmp_path / "a.cu").write_text('extern "C" __global__ void f(float* x) { x[threadIdx.x] *= 2.0f; }\n')
    toolkit = find_toolkit()
    assert toolkit is not None
    toolkit.compile(tmp_path / "a.cu", tmp_path / "a.fatbin", GPUS[-1:])
    binary = (tmp_path / "a.fatbin").read_bytes()
    assert binary[:4] == b"\x50\xed\x55\xba"  # the magic number of fat binaries
    assert b".version" in binary or b"sm_120" in binary
