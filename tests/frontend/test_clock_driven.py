"""Model files written for SpikingJelly's former package `clock_driven`."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from spikingjelly.activation_based import functional
from spikingjelly.activation_based import layer as current_layer
from spikingjelly.activation_based import neuron as current
from torch import Tensor, nn

import spikenm_compile
from spikenm_compile.compiler import lift_model
from spikenm_compile.errors import CaptureError, ToolError
from spikenm_compile.frontend.capture import capture
from spikenm_compile.graph import run_steps

OLD_FILE = """
import torch
import torch.nn as nn
from spikingjelly.clock_driven import functional, layer, surrogate
from spikingjelly.clock_driven.neuron import MultiStepIFNode, MultiStepLIFNode, MultiStepParametricLIFNode
from spikingjelly.clock_driven.layer import MultiStepContainer, SeqToANNContainer


class Mlp(nn.Module):
    def __init__(self, features, hidden):
        super().__init__()
        self.fc1 = nn.Linear(features, hidden)
        self.bn1 = nn.BatchNorm1d(hidden)
        self.lif1 = MultiStepLIFNode(tau=2.0, detach_reset=True, backend='cupy')
        self.fc2 = nn.Linear(hidden, features)
        self.lif2 = MultiStepParametricLIFNode(init_tau=2.0, v_threshold=0.2, detach_reset=True, backend='cupy')
        self.hidden = hidden

    def forward(self, x):
        T, B, C = x.shape
        x = self.bn1(self.fc1(x.flatten(0, 1))).reshape(T, B, self.hidden).contiguous()
        x = self.lif1(x)
        x = self.fc2(x.flatten(0, 1)).reshape(T, B, C).contiguous()
        return self.lif2(x)


class Net(nn.Module):
    def __init__(self, T=4):
        super().__init__()
        self.T = T
        self.conv = SeqToANNContainer(nn.Conv2d(2, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8))
        self.sn = MultiStepIFNode(0.5, 0.0, surrogate.ATan(), True, 'cupy')
        self.pool = SeqToANNContainer(nn.MaxPool2d(2), nn.Flatten())
        self.drop = layer.MultiStepDropout(0.2)
        self.mlp = Mlp(128, 64)
        self.head = nn.Linear(128, 10)

    def forward(self, x):
        x = x.unsqueeze(0).repeat(self.T, 1, 1, 1, 1)
        x = self.drop(self.pool(self.sn(self.conv(x))))
        x = self.mlp(x)
        return self.head(x.mean(0))


def train_step(net, x):
    net(x).sum().backward()
    functional.reset_net(net)
"""


@pytest.fixture(scope="module")
def old() -> Iterator[dict[str, Any]]:
    """Names that the old file defines."""
    spikenm_compile.install_clock_driven()
    namespace: dict[str, Any] = {"__name__": "old_file"}
    exec(OLD_FILE, namespace)
    yield namespace
    for name in [name for name in sys.modules if name.startswith("spikingjelly.clock_driven")]:
        del sys.modules[name]
    del sys.modules["spikingjelly"].clock_driven


@pytest.fixture
def clock_driven(old: dict[str, Any]) -> Any:
    return sys.modules["spikingjelly.clock_driven"]


def test_an_old_model_file_trains_captures_and_lifts(old: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model: nn.Module = old["Net"]()
    x = torch.rand(3, 2, 8, 8)
    old["train_step"](model, x)
    assert model.get_parameter("conv.0.weight").grad is not None
    model.eval()
    with torch.no_grad():
        expected: Tensor = model(x)
        functional.reset_net(model)
        assert torch.equal(capture(model)(x), expected)
        functional.reset_net(model)
        assert torch.equal(run_steps(lift_model(model, x), x, 4).output, expected)
    spikenm_compile.transform(model, "2:4", report=None)
    assert {"mlp.fc1.mask.logits", "mlp.fc2.mask.logits"} <= {*model.state_dict()}


def test_classes_make_objects_of_the_library(clock_driven: Any) -> None:
    neuron, layer = clock_driven.neuron, clock_driven.layer
    many = neuron.MultiStepLIFNode(3.0, False, 0.7, None, clock_driven.surrogate.Sigmoid(), True, "cupy", 64)
    assert type(many) is current.LIFNode
    assert (many.tau, many.decay_input, many.v_threshold, many.v_reset) == (3.0, False, 0.7, None)
    assert (many.detach_reset, many.step_mode) == (True, "m")
    one = neuron.LIFNode(tau=3.0, cupy_fp32_inference=True)
    assert (type(one), one.step_mode) == (current.LIFNode, "s")
    assert isinstance(many, neuron.MultiStepLIFNode)
    assert isinstance(one, neuron.LIFNode)
    assert not isinstance(one, neuron.MultiStepLIFNode)
    assert not isinstance(many, neuron.MultiStepIFNode)
    assert type(pickle.loads(pickle.dumps(many))) is current.LIFNode
    assert (layer.MultiStepDropout2d().p, layer.MultiStepDropout2d(0.3).p) == (0.5, 0.3)
    assert neuron.MultiStepIzhikevichNode().v_reset == -0.1
    assert (
        type(layer.MultiStepThresholdDependentBatchNorm2d(1.0, 0.5, 8)) is current_layer.ThresholdDependentBatchNorm2d
    )


def test_a_subclass_is_a_class_of_its_own(clock_driven: Any) -> None:
    class Own(clock_driven.neuron.MultiStepLIFNode):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(tau=3.0, backend="cupy")

    node = Own()
    assert (type(node), node.tau, node.step_mode) == (Own, 3.0, "m")
    assert isinstance(node, Own)
    assert isinstance(node, clock_driven.neuron.MultiStepLIFNode)
    assert not isinstance(clock_driven.neuron.MultiStepLIFNode(), Own)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("from spikingjelly.clock_driven.neuron import MultiStepGeneralNode", "'MultiStepGeneralNode' of the former"),
        ("from spikingjelly.clock_driven import accelerating", "'accelerating' of .*clock_driven has no counterpart"),
        ("from spikingjelly.clock_driven.functional import set_monitor", "'set_monitor' of the former .*reset_net"),
    ],
)
@pytest.mark.usefixtures("old")
def test_unknown_names_end_in_a_sentence(line: str, message: str) -> None:
    with pytest.raises(CaptureError, match=message) as caught:
        exec(line, {})
    assert "\n" not in str(caught.value)


def test_nothing_is_installed_unasked_and_once_is_enough(old: dict[str, Any]) -> None:
    before = sys.modules["spikingjelly.clock_driven"]
    spikenm_compile.install_clock_driven()
    assert sys.modules["spikingjelly.clock_driven"] is before
    program = "import spikingjelly.activation_based.neuron, spikenm_compile.compiler, spikingjelly.clock_driven"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "No module named 'spikingjelly.clock_driven'" in done.stderr


@pytest.mark.parametrize(
    ("present", "message"), [((), "is not installed"), (("spikingjelly", "spikingjelly.clock_driven"), "is too old")]
)
def test_another_library_is_refused(
    present: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delitem(sys.modules, "spikingjelly.clock_driven", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name if name in present else None)
    with pytest.raises(ToolError, match=message):
        spikenm_compile.install_clock_driven()
