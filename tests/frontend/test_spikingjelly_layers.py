from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from frontend.zoo import node
from spikingjelly.activation_based import functional, layer
from torch import Tensor, nn

from spikenm_compile.errors import CaptureError
from spikenm_compile.frontend.capture import capture
from spikenm_compile.frontend.lift import lift
from spikenm_compile.graph import module_of, run_steps
from spikenm_compile.learning.choice import obstacle
from spikenm_compile.pattern import Pattern

T, B = 4, 2


class Loop(nn.Module):
    """A single-step network, called once for each step of its input."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.network(x[t]) for t in range(x.shape[0])])


def is_unrolled(model: nn.Module) -> bool:
    """Whether its captured graph has one T."""
    loops = (Loop, layer.MultiStepContainer)
    stateful = any(isinstance(m, layer.StepModeContainer) and m.stateful for m in model.modules())
    return stateful or any(isinstance(m, loops) for m in model.modules())


def network(tested: nn.Module, mode: str) -> nn.Module:
    """The layer between two neurons; settled in training, then in eval mode."""
    layers = nn.Sequential(node(v_threshold=0.3), tested, node("IFNode", v_threshold=0.4))
    functional.set_step_mode(layers, mode)
    return layers if mode == "m" else Loop(layers)


@torch.no_grad()
def assert_lifts(model: nn.Module, shape: tuple[int, ...]) -> Any:
    """Captured graph and step graph equal the model, with and without a reset, also for another batch and another T.

    A captured loop has the T of its example.
    """
    x = torch.rand(T, B, *shape) * 2
    captured = capture(model, x)
    step_graph = lift(captured, x)
    for y in [torch.rand(t, batch, *shape) * 2 for t in (T, T + 2) for batch in (B, B + 1)]:
        expected = two_calls(model, y)
        if len(y) == T or not is_unrolled(model):
            assert all(map(torch.equal, two_calls(captured, y), expected))
        assert expected[0].any()
        assert torch.equal(run_steps(step_graph, y).output, expected[0])
    return step_graph


def two_calls(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs of two calls from the reset state on, without a reset between them."""
    functional.reset_net(model)
    outputs = model(x), model(x)
    functional.reset_net(model)
    return outputs


def trained(model: nn.Module, shape: tuple[int, ...]) -> nn.Module:
    """With the statistics of a batch, and parameters that are not those of the start."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.rand_like(parameter) * 0.1)
        model(torch.rand(T, B, *shape) * 2)
    functional.reset_net(model)
    return model.eval()


LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "Conv1d": (lambda: layer.Conv1d(3, 4, 3), (3, 6)),
    "Conv3d": (lambda: layer.Conv3d(3, 4, 1), (3, 2, 4, 4)),
    "ConvTranspose2d": (lambda: layer.ConvTranspose2d(3, 4, 2, stride=2), (3, 3, 3)),
    "WSConv2d": (lambda: layer.WSConv2d(3, 4, 3, padding=1), (3, 5, 5)),
    "WSConv2d without gain": (lambda: layer.WSConv2d(4, 4, 3, groups=2, gain=False), (4, 5, 5)),
    "WSLinear": (lambda: layer.WSLinear(6, 6), (6,)),
    "BatchNorm1d": (lambda: layer.BatchNorm1d(3), (3, 4)),
    "BatchNorm3d": (lambda: layer.BatchNorm3d(3), (3, 2, 4, 4)),
    "GroupNorm": (lambda: layer.GroupNorm(2, 4), (4, 3, 3)),
    "MaxPool1d": (lambda: layer.MaxPool1d(2), (3, 6)),
    "MaxPool3d": (lambda: layer.MaxPool3d(2), (3, 2, 4, 4)),
    "AvgPool1d": (lambda: layer.AvgPool1d(2), (3, 6)),
    "AvgPool3d": (lambda: layer.AvgPool3d(2), (3, 2, 4, 4)),
    "AdaptiveAvgPool3d": (lambda: layer.AdaptiveAvgPool3d(1), (3, 2, 4, 4)),
    "Upsample": (lambda: layer.Upsample(scale_factor=2), (3, 2, 2)),
    "VotingLayer": (lambda: layer.VotingLayer(3), (12,)),
    "Dropout2d": (lambda: layer.Dropout2d(0.5), (3, 4, 4)),
    "SynapseFilter": (lambda: layer.SynapseFilter(tau=3.0), (3, 4)),
    "SynapseFilter learned": (lambda: layer.SynapseFilter(tau=3.0, learnable=True), (3, 4)),
    "Delay": (lambda: layer.Delay(2), (3, 4)),
    "Delay of one": (lambda: layer.Delay(1), (3, 4)),
    "Delay of none": (lambda: layer.Delay(0), (3, 4)),
}


@pytest.mark.parametrize("mode", ["s", "m"])
@pytest.mark.parametrize("name", LAYERS)
def test_layer_lifts_in_both_step_modes(name: str, mode: str) -> None:
    make, shape = LAYERS[name]
    if name == "WSLinear" and mode == "m":
        shape = (1, *shape)
    assert_lifts(trained(network(make(), mode), shape), shape)


@pytest.mark.parametrize("n", [1, 2])
def test_threshold_dependent_batch_norm_is_a_batch_norm(n: int) -> None:
    norm = getattr(layer, f"ThresholdDependentBatchNorm{n}d")(1.0, 0.5, 3)
    model = nn.Sequential(node(v_threshold=0.3, step_mode="m"), norm, node(v_threshold=0.1, step_mode="m"))
    step_graph = assert_lifts(trained(model, (3, *(4,) * n)), (3, *(4,) * n))
    calls = step_graph.graph.find_nodes(op="call_module")
    assert type(module_of(step_graph, calls[1])) is getattr(nn, f"BatchNorm{n}d")


def test_a_standardised_weight_learns_no_mask() -> None:
    assert obstacle(layer.WSConv2d(4, 4, 3), Pattern(2, 4)) == "class WSConv2d uses its weight in its own way"
    assert obstacle(layer.WSLinear(4, 4), Pattern(2, 4)) == "class WSLinear uses its weight in its own way"


def spiking_block() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), node(v_threshold=0.1), nn.MaxPool2d(2))


CONTAINERS: dict[str, Callable[[], nn.Module]] = {
    "SeqToANNContainer": lambda: layer.SeqToANNContainer(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AvgPool2d(2)),
    "MultiStepContainer": lambda: layer.MultiStepContainer(*spiking_block()),
    "StepModeContainer, stateless": lambda: layer.StepModeContainer(False, "m", nn.Conv2d(3, 4, 3), nn.Flatten()),
    "StepModeContainer, stateful": lambda: layer.StepModeContainer(True, "m", *spiking_block()),
    "nested": lambda: layer.MultiStepContainer(nn.Sequential(spiking_block(), nn.Flatten(), layer.VotingLayer(3))),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_containers_lift(name: str) -> None:
    first, last = node(v_threshold=0.3, step_mode="m"), node("IFNode", v_threshold=0.05, step_mode="m")
    model = nn.Sequential(first, CONTAINERS[name](), last).eval()
    assert_lifts(model, (3, 6, 6))


REFUSED: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], str]] = {
    "TEBN": (
        lambda: layer.TemporalEffectiveBatchNorm2d(T, 3),
        (3, 4, 4),
        r"layer '1': SpikingJelly's TemporalEffectiveBatchNorm2d normalises each time step in another way",
    ),
    "BNTT": (
        lambda: layer.BatchNormThroughTime2d(T, 3, step_mode="m"),
        (3, 4, 4),
        "BatchNormThroughTime2d normalises each time step in another way; .* use BatchNorm",
    ),
    "NeuNorm": (lambda: layer.NeuNorm(3, 4, 4, step_mode="m"), (3, 4, 4), "NeuNorm keeps a trace of the sum over all"),
    "DropConnect": (
        lambda: layer.DropConnectLinear(6, 6, step_mode="m"),
        (6,),
        "DropConnectLinear draws random numbers in evaluation too",
    ),
    "Delay": (lambda: layer.Delay(64, step_mode="m"), (6,), "layer '1': a Delay holds 64 steps; up to 63"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_layers_without_a_step_are_refused(name: str) -> None:
    make, shape, message = REFUSED[name]
    model = nn.Sequential(node(step_mode="m"), make(), node(step_mode="m")).eval()
    x = torch.rand(T, B, *shape)
    captured = capture(model, x)
    with pytest.raises(CaptureError, match=message):
        lift(captured, x)


def test_a_container_with_time_last_is_captured_whole_and_not_lifted() -> None:
    model = nn.Sequential(layer.TLastSeqToANNContainer(nn.Linear(B, 6)), node(v_threshold=0.1, step_mode="m")).eval()
    x = torch.rand(T, B, 6) * 2
    captured = capture(model, x)
    with torch.no_grad():
        assert all(map(torch.equal, two_calls(captured, x), two_calls(model, x)))
    with pytest.raises(CaptureError, match=r"TLastSeqToANNContainer runs its layers under torch\.vmap"):
        lift(captured, x)
