"""Residual joins of spikes, ADD, AND and IAND, from the model to the verified artifact."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from frontend.zoo import SewBlock
from spikingjelly.activation_based import functional, neuron, surrogate
from torch import Tensor, nn
from zoo import settle, torchvision_stub

from spikenm_compile.compiler import compile_model
from spikenm_compile.verification import verify

with torchvision_stub():
    from spikingjelly.activation_based.model.sew_resnet import sew_resnet18

JOINS, TARGETS = ("ADD", "AND", "IAND"), ("native", "onnx")


def assert_builds(model: nn.Module, x: Tensor, target: str, out: Path) -> None:
    compile_model(model, x, out, target=target)
    for result in verify(out):
        assert result.passed, result
        assert result.compared > 0


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("join", JOINS[1:])
def test_a_block_builds(tmp_path: Path, join: str, target: str) -> None:
    x = torch.rand(3, 4, 2, 8, 8) * 3
    assert_builds(settle(SewBlock(join), x), x, target, tmp_path / "a")


@pytest.mark.long
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("join", JOINS)
def test_sew_resnet18_builds(tmp_path: Path, join: str, target: str) -> None:
    options = {"surrogate_function": surrogate.ATan(), "detach_reset": True, "v_threshold": 0.5, "num_classes": 10}
    model = sew_resnet18(cnf=join, spiking_neuron=neuron.IFNode, **options)
    functional.set_step_mode(model, "m")
    x = torch.rand(2, 2, 3, 16, 16)
    assert_builds(settle(model, x), x, target, tmp_path / "a")
