"""The GPU benchmark without a GPU: its dry run, its bounds, its tables, and what it says."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import gpu
from benchmarks.gpu_networks import NETWORKS, NUM_STEPS, Network, make
from benchmarks.gpu_peers import peer_of
from benchmarks.gpu_roofline import layers_of, peak_of
from spikenm_compile.compiler import lower
from spikenm_compile.errors import TargetError
from spikenm_compile.neurons import LIF
from spikenm_compile.passes.select_kernels import DENSE_TENSOR_CORE, SPARSE_TENSOR_CORE
from spikenm_compile.runtime.cuda_driver import Driver
from spikenm_compile.targets import cuda
from spikenm_compile.training.networks.blocks import Classifier, PerStep, SewBlock, Spiking


def tiny() -> nn.Module:
    blocks = [Spiking(3, 8), SewBlock(8, 8, 1), SewBlock(8, 16, 2), PerStep(nn.AvgPool2d(4))]
    return Classifier(nn.Sequential(*blocks), 16, 4, NUM_STEPS)


TINY = Network(tiny, 8, (4, 1))


def test_a_dry_run_builds_everything(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(cuda, "find_toolkit", lambda: None)
    monkeypatch.setitem(NETWORKS, "tiny", TINY)
    assert gpu.main(["--dry-run", "--networks", "tiny"]) == 0
    text = capsys.readouterr().out
    assert "tiny, ours, 2:4: " in text
    assert "5 of 7 layers 2:4; roofline of an H200 " in text
    assert "PyTorch gives [2, 4]" in text


def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        Driver()
    except TargetError:
        assert gpu.main([]) == 1
        assert capsys.readouterr().out.startswith("no figure was taken: this machine has no NVIDIA driver")


def test_the_peer_computes_the_network() -> None:
    model, x = make(TINY, is_sparse=False)
    with torch.no_grad():
        expected = model(x)
        for module in model.modules():
            if isinstance(module, LIF):
                module.reset()
        found = peer_of(model, torch.float64, "cpu", compiled=False)(x.double())
    assert (found - expected).abs().max() < 0.3 * expected.abs().max()  # a spike or two may flip


def test_bounds() -> None:
    model, x = make(TINY, is_sparse=True)
    layers = layers_of(lower(model, x, target="cuda"))
    assert [layer.kernel for layer in layers].count(SPARSE_TENSOR_CORE) == 5
    first, second = layers[:2]
    assert (first.kernel, first.outputs, first.reduction, first.positions) == (DENSE_TENSOR_CORE, 8, 27, 64)
    assert (second.outputs, second.reduction, second.positions) == (8, 72, 64 * 4)
    assert second.bytes_moved == 2 * 8 * 64 * 4 / 8
    peak = peak_of("NVIDIA H200 141GB HBM3e")
    assert peak is not None
    assert peak_of("GeForce 256") is None
    operations = 2 * 8 * 72 * 256 * 10**9
    assert second.microseconds(peak, 10**9) == pytest.approx(1e6 * max(operations / (2 * peak.int8), 512e9 / 4.8e12))


def test_results_are_written(tmp_path: Path) -> None:
    results = gpu.Results("NVIDIA H200", "2026-01-01", "2.0")
    results.networks.append({"network": "n", "batch": 64, "way": "ours, 2:4", "microseconds": 12.345})
    row = {"network": "n", "batch": 64, "way": "ours, 2:4", "layer": "conv1", "how": "2:4 tensor cores"}
    results.layers += [{**row, "microseconds": 3.0, "roofline": 1.5}, {**row, "microseconds": 1.0, "roofline": None}]
    gpu.write(results, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "gpu-NVIDIA-H200-2026-01-01.json",
        "gpu-NVIDIA-H200-2026-01-01.md",
    }
    text = (tmp_path / "gpu-NVIDIA-H200-2026-01-01.md").read_text()
    assert "12.3" in text
    assert "conv1" in text
