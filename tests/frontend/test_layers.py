from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikenm_compile.errors import CaptureError
from spikenm_compile.frontend.adapters import reset_states
from spikenm_compile.frontend.capture import capture
from spikenm_compile.frontend.layer_rules import ACTIVATIONS, LAYER_RULES, POOLS
from spikenm_compile.frontend.lift import lift
from spikenm_compile.graph import format_graph, run_steps
from spikenm_compile.neurons import IF, LIF

T, B = 3, 2


class Steps(nn.Module):
    """A layer between two neurons, as T·B samples at once or step by step."""

    def __init__(self, layer: Callable[[Tensor], Tensor], form: str) -> None:
        super().__init__()
        self.layer, self.form = layer, form
        mode = "s" if form == "loop" else "m"
        self.first, self.last = IF(v_threshold=0.4, step_mode=mode), LIF(v_threshold=0.05, step_mode=mode)

    def forward(self, x: Tensor) -> Tensor:
        if self.form == "loop":
            return torch.stack([self.last(self.layer(self.first(x[t]))) for t in range(x.shape[0])])
        if self.form == "sequence":
            return self.last(self.layer(self.first(x)))  # type: ignore[no-any-return]
        y = self.layer(self.first(x).flatten(0, 1))
        return self.last(y.unflatten(0, x.shape[:2]))  # type: ignore[no-any-return, no-untyped-call]


@torch.no_grad()
def assert_lifts(model: nn.Module, shape: tuple[int, ...]) -> torch.fx.GraphModule:
    """The step graph equals the model, also for another batch and another T."""
    x = torch.rand(T, B, *shape) * 2
    step_graph = lift(capture(model.eval(), x), x)
    for y in (x, torch.rand(T, B + 1, *shape) * 2, torch.rand(T + 1, B, *shape) * 2):
        reset_states(model)
        expected = model(y)
        reset_states(model)
        assert expected.any()
        assert torch.equal(run_steps(step_graph, y).output, expected)
    return step_graph


def settled(norm: Any) -> nn.Module:
    """A normalisation with statistics and parameters of its own."""
    for tensor in (norm.running_mean, norm.running_var, norm.weight, norm.bias):
        nn.init.uniform_(tensor, 0.5, 1.5)
    return norm  # type: ignore[no-any-return]


LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "Conv1d": (lambda: nn.Conv1d(4, 8, 3, padding=1), (4, 6)),
    "Conv2d grouped": (lambda: nn.Conv2d(4, 8, 3, groups=2), (4, 6, 6)),
    "Conv2d depthwise": (lambda: nn.Conv2d(4, 4, 3, groups=4, dilation=2, padding=2), (4, 6, 6)),
    "Conv3d": (lambda: nn.Conv3d(4, 2, 1), (4, 2, 3, 3)),
    "ConvTranspose1d": (lambda: nn.ConvTranspose1d(4, 2, 2, stride=2), (4, 3)),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(4, 2, 3, stride=2, output_padding=1), (4, 3, 3)),
    "ConvTranspose3d": (lambda: nn.ConvTranspose3d(2, 2, 2), (2, 2, 2, 2)),
    "InstanceNorm1d": (lambda: nn.InstanceNorm1d(3, affine=True), (3, 8)),
    "InstanceNorm2d": (lambda: nn.InstanceNorm2d(3), (3, 4, 4)),
    "InstanceNorm3d": (lambda: nn.InstanceNorm3d(3), (3, 2, 4, 4)),
    "Linear": (lambda: nn.Linear(6, 4), (6,)),
    "Linear of tokens": (lambda: nn.Linear(6, 4), (5, 6)),
    "BatchNorm1d": (lambda: settled(nn.BatchNorm1d(6)), (6,)),
    "BatchNorm1d of tokens": (lambda: settled(nn.BatchNorm1d(6)), (6, 3)),
    "BatchNorm2d": (lambda: settled(nn.BatchNorm2d(3)), (3, 4, 4)),
    "BatchNorm3d": (lambda: settled(nn.BatchNorm3d(3)), (3, 2, 4, 4)),
    "GroupNorm": (lambda: nn.GroupNorm(2, 4), (4, 3, 3)),
    "LayerNorm": (lambda: nn.LayerNorm(6), (5, 6)),
    "LayerNorm of maps": (lambda: nn.LayerNorm((3, 4, 4)), (3, 4, 4)),
    "RMSNorm": (lambda: nn.RMSNorm(6), (5, 6)),
    **{f"MaxPool{n}d": (partial(POOLS[f"max_pool{n}d"], 2), (3, *(4,) * n)) for n in (1, 2, 3)},
    **{f"AvgPool{n}d": (partial(POOLS[f"avg_pool{n}d"], 2, 1), (3, *(4,) * n)) for n in (1, 2, 3)},
    **{f"AdaptiveAvgPool{n}d": (partial(POOLS[f"adaptive_avg_pool{n}d"], 2), (3, *(5,) * n)) for n in (1, 2, 3)},
    **{f"AdaptiveMaxPool{n}d": (partial(POOLS[f"adaptive_max_pool{n}d"], 1), (3, *(4,) * n)) for n in (1, 2, 3)},
    "Upsample": (lambda: nn.Upsample(scale_factor=2), (3, 2, 2)),
    "Upsample bilinear": (lambda: nn.Upsample((5, 5), mode="bilinear", align_corners=True), (3, 2, 2)),
    "Flatten": (nn.Flatten, (3, 2, 2)),
    **{kind.__name__: (kind, (7,)) for kind in ACTIVATIONS.values()},
    "ReLU in place": (lambda: nn.ReLU(inplace=True), (7,)),
    "Dropout2d": (nn.Dropout2d, (3, 2, 2)),
    "Identity": (nn.Identity, (3,)),
}


def test_every_layer_is_tested() -> None:
    made = {type(make()) for make, _ in LAYERS.values()}
    assert set(LAYER_RULES) <= made


@pytest.mark.parametrize("form", ["samples", "loop"])
@pytest.mark.parametrize("name", LAYERS)
def test_layer_lifts_to_one_step(name: str, form: str) -> None:
    make, shape = LAYERS[name]
    step_graph = assert_lifts(Steps(make(), form), shape)
    assert len(step_graph.graph.find_nodes(op="call_module")) <= 3  # one node for T calls


@pytest.mark.parametrize("name", ["Linear", "Linear of tokens", "LayerNorm", "RMSNorm", "ReLU", "AvgPool1d"])
def test_layers_of_the_last_dimensions_take_sequences(name: str) -> None:
    make, shape = LAYERS[name]
    assert_lifts(Steps(make(), "sequence"), shape[1:] if name == "AvgPool1d" else shape)


FUNCTIONS: dict[str, tuple[Callable[[Any], Tensor], tuple[int, ...]]] = {
    "max_pool1d": (lambda x: F.max_pool1d(x, 2), (3, 4)),
    "max_pool2d": (lambda x: torch.max_pool2d(x, 2), (3, 4, 4)),
    "max_pool3d": (lambda x: F.max_pool3d(x, 2), (3, 4, 4, 4)),
    "avg_pool1d": (lambda x: F.avg_pool1d(x, 2), (3, 4)),
    "avg_pool3d": (lambda x: F.avg_pool3d(x, 2), (3, 4, 4, 4)),
    "adaptive_avg_pool1d": (lambda x: F.adaptive_avg_pool1d(x, 2), (3, 4)),
    "adaptive_max_pool2d": (lambda x: F.adaptive_max_pool2d(x, (1, 2)), (3, 4, 4)),
    "interpolate": (lambda x: F.interpolate(x, [4, 4], mode="nearest"), (3, 2, 2)),
    "interpolate by a factor": (lambda x: F.interpolate(x, scale_factor=2.0), (3, 2, 2)),
    "relu": (lambda x: F.relu(x - 0.5) + x.relu() + torch.relu(x), (5,)),
    "sigmoid": (lambda x: x.sigmoid() * torch.sigmoid(x), (5,)),
    "neg": (lambda x: 1.0 + -x + torch.neg(x) + x.neg(), (5,)),
    "leaky_relu": (lambda x: F.leaky_relu(x - 0.5, 0.2), (5,)),
    "dropout2d": (lambda x: F.dropout2d(x, 0.5, training=False), (3, 2, 2)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_lift_as_layers(name: str) -> None:
    function, shape = FUNCTIONS[name]
    assert_lifts(Steps(function, "loop"), shape)


def in_place_method(x: Tensor) -> Tensor:
    y = x - 0.5
    y.relu_()
    return y + x


def in_place_function(x: Tensor) -> Tensor:
    y = x - 0.5
    F.relu(y, inplace=True)
    return y + x


def in_place_argument(x: Tensor) -> Tensor:
    y = x - 0.5
    F.relu(y, True)
    return y + x


class InPlaceModule(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = x - 0.5
        self.relu(y)
        return y + x


@pytest.mark.parametrize("layer", [in_place_method, in_place_function, in_place_argument, InPlaceModule()])
def test_what_a_layer_changes_in_place_is_seen(layer: Callable[[Tensor], Tensor]) -> None:
    step_graph = assert_lifts(Steps(layer, "loop"), (7,))
    assert "inplace" not in format_graph(step_graph)


def test_gate_of_channels() -> None:
    """Squeeze and excitation: pooled, two 1×1 convolutions, a sigmoid that scales the channels."""

    class Gate(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.reduce, self.expand = nn.Conv2d(4, 2, 1), nn.Conv2d(2, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            pooled = F.adaptive_avg_pool2d(x, 1) + F.adaptive_max_pool2d(x, 1)
            return x * torch.sigmoid(self.expand(F.relu(self.reduce(pooled))))

    assert_lifts(Steps(Gate(), "samples"), (4, 5, 5))


def time_last(pool: nn.Module) -> nn.Module:
    class Pools(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.spike, self.pool = IF(step_mode="s"), pool

        def forward(self, x: Tensor) -> Tensor:
            return self.pool(torch.stack([self.spike(x) for _ in range(4)], dim=2))  # type: ignore[no-any-return]

    return Pools()


REFUSED: dict[str, tuple[nn.Module, tuple[int, ...], str]] = {
    "a sequence into a convolution": (
        Steps(nn.Conv2d(2, 2, 1), "sequence"),
        (T, 2, 4, 4),
        r"'layer' \(Conv2d\) gets a sequence; it takes one step",
    ),
    "a convolution without batch": (
        Steps(nn.Conv1d(T * B, T * B, 1), "samples"),
        (T, B, 6),
        r"'layer' \(Conv1d\) gets 2 dimensions \[2, 6\] for each step; it takes 3",
    ),
    "a pool over time": (
        time_last(nn.AvgPool1d(2)),
        (B, 6),
        r"'pool' \(AvgPool1d\) computes over the last 1 dim.*time",
    ),
    "a norm over the batch": (Steps(nn.LayerNorm((B, 6)), "sequence"), (T, B, 6), "last 2 dimensions, which hold time"),
    "indices": (Steps(nn.MaxPool2d(2, return_indices=True), "samples"), (T, B, 2, 4, 4), "a MaxPool2d"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_layers_that_mix_steps_or_samples_are_refused(name: str) -> None:
    model, shape, message = REFUSED[name]
    x = torch.rand(shape)
    if name == "indices":
        model.layer = nn.Sequential(model.layer, FirstOf())  # type: ignore[arg-type]
    captured = capture(model, x)
    with pytest.raises(CaptureError, match=message):
        lift(captured, x)


class FirstOf(nn.Module):
    def forward(self, pair: tuple[Tensor, Tensor]) -> Tensor:
        return pair[0]
