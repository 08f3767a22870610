"""SpikingJelly's spiking transformers, the attention layers in them, and the form in which papers write them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import Tensor, nn
from zoo import check_captured, check_zoo_model, num_bn_pairs, settle, torchvision_stub

from spikenm_compile import fold, lower, transform
from spikenm_compile.errors import CaptureError, PassError
from spikenm_compile.frontend.capture import capture
from spikenm_compile.frontend.lift import lift
from spikenm_compile.graph import format_graph, run_steps, spike_nodes
from spikenm_compile.learning.attach import masked_layers
from spikenm_compile.neurons import IF
from spikenm_compile.pattern import Pattern

with torchvision_stub():
    from spikingjelly.activation_based.model.masnn import MASNN, AttMSResNet
    from spikingjelly.activation_based.model.maxformer import MaxFormer, maxformer_10_384, maxformer_cifar
    from spikingjelly.activation_based.model.qkformer import QKFormer, qkformer_10_384
    from spikingjelly.activation_based.model.spike_driven_transformer import SpikeDrivenTransformer, sdt_8_384
    from spikingjelly.activation_based.model.spikformer import (
        Spikformer,
        spikformer_cifar10,
        spikformer_s,
        spikformer_ti,
    )

IMAGES, EVENTS = (2, 3, 16, 16), (3, 2, 3, 16, 16)
"""Shapes of inputs: two images, and three steps of two."""
SMALL: dict[str, Any] = {"T": 2, "num_classes": 10, "embed_dims": 32, "mlp_ratio": 2.0}

SPIKFORMER = partial(Spikformer, img_size_h=16, img_size_w=16, patch_size=4, num_heads=4, depths=1, **SMALL)
SDT = partial(SpikeDrivenTransformer, num_heads=4, depths=1, pooling_stat="1100", **SMALL)
QKFORMER = partial(QKFormer, num_heads=(1, 2, 4), depths=(1, 1, 1), **SMALL)
MAXFORMER = partial(MaxFormer, depths=(1, 1, 1), **SMALL)

Case = tuple[Callable[[], nn.Module], tuple[int, ...], int, int]
"""(makes the model, shape of its input, layers that learn a mask, batch norms that fold)."""
SMALL_MODELS: dict[str, Case] = {
    # 5 convolutions of the stem, one for q, k and v, one behind the attention, 2 of the MLP; the first sees the input
    "spikformer": (SPIKFORMER, IMAGES, 8, 9),
    "spikformer on events": (SPIKFORMER, EVENTS, 8, 9),
    "spikformer of two blocks": (partial(SPIKFORMER, depths=2), IMAGES, 12, 13),
    # 5 of the stem; q, k, v and behind the attention; 2 of the MLP
    "sdt": (SDT, IMAGES, 10, 11),
    "sdt on events": (SDT, EVENTS, 10, 11),
    "sdt with a residual MLP": (partial(SDT, mlp_ratio=1.0), EVENTS, 10, 11),
    # 4, 3 and 3 of the patch embeddings, 4 of each block
    "qkformer of tokens": (QKFORMER, IMAGES, 21, 22),
    "qkformer of channels": (partial(QKFORMER, qka_type="channel"), EVENTS, 21, 22),
    # 4, 3 and 3; 3 of each depthwise block, of which one is depthwise and cannot hold 2:4; 4 of the attention block
    "maxformer": (MAXFORMER, EVENTS, 17, 20),
    # 3, 3 and 3; 2 of the MLP, 3 of the depthwise block, 4 of the attention block
    "maxformer for CIFAR": (partial(MAXFORMER, cifar=True), IMAGES, 16, 18),
}


@pytest.mark.parametrize("name", SMALL_MODELS)
def test_a_spiking_transformer_lifts(name: str) -> None:
    make, shape, maskable, bn_pairs = SMALL_MODELS[name]
    torch.manual_seed(0)
    x = torch.rand(shape) * 2
    check_zoo_model(settle(make(), x), x, maskable=maskable, bn_pairs=bn_pairs)


LARGE_MODELS: dict[str, Case] = {
    "spikformer_cifar10": (spikformer_cifar10, (2, 3, 32, 32), 20, 21),
    "spikformer_ti": (partial(spikformer_ti, img_size_h=32, img_size_w=32, num_classes=10), (2, 3, 32, 32), 20, 21),
    "spikformer_s": (partial(spikformer_s, img_size_h=32, img_size_w=32, num_classes=10), (2, 3, 32, 32), 28, 29),
    "sdt_8_384": (partial(sdt_8_384, num_classes=10), (2, 3, 32, 32), 52, 53),
    "qkformer_10_384": (partial(qkformer_10_384, num_classes=10), (2, 3, 32, 32), 49, 50),
    "maxformer_10_384": (partial(maxformer_10_384, num_classes=10), (2, 3, 32, 32), 43, 47),
    "maxformer_cifar": (maxformer_cifar, (2, 3, 32, 32), 20, 22),
}


@pytest.mark.long
@pytest.mark.parametrize("name", LARGE_MODELS)
def test_a_published_spiking_transformer_lifts(name: str) -> None:
    make, shape, maskable, bn_pairs = LARGE_MODELS[name]
    torch.manual_seed(0)
    x = torch.rand(shape) * 2
    check_zoo_model(settle(make(), x), x, maskable=maskable, bn_pairs=bn_pairs)


def test_the_step_of_spikformer_reads_like_its_equation() -> None:
    torch.manual_seed(0)
    x = torch.rand(IMAGES)
    lines = format_graph(lift(capture(settle(SPIKFORMER(), x), x), x)).splitlines()
    attention = [line.split(" = ")[1] for line in lines if "matmul(" in line]
    assert attention == ["matmul(%sliced_2, %permute)", "matmul(%matmul, %sliced)"]
    assert sum("%sliced_1" in line and "permute(" in line for line in lines) == 1


class AroundTokens(nn.Module):
    """An attention layer [T, B, C, L] between a projection and a readout."""

    def __init__(self, attention: nn.Module, *, is_map: bool = False) -> None:
        super().__init__()
        self.attention, self.is_map = attention, is_map
        self.conv, self.bn = layer.Conv2d(3, 16, 3, padding=1, step_mode="m"), layer.BatchNorm2d(16, step_mode="m")
        self.spike = neuron.LIFNode(step_mode="m", v_threshold=0.2, detach_reset=True)
        self.out = neuron.IFNode(step_mode="m", v_threshold=0.1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.spike(self.bn(self.conv(x)))
        x = self.attention(x) if self.is_map else self.attention(x.flatten(3))
        return self.out(x.flatten(2)).mean(0)  # type: ignore[no-any-return]


EASY: dict[str, Any] = {"v_threshold": 0.2}

ATTENTION: dict[str, tuple[Callable[[], nn.Module], int, int]] = {
    "SpikingSelfAttention": (lambda: AroundTokens(layer.SpikingSelfAttention(16, 2, **EASY)), 2, 3),
    "QKAttention": (lambda: AroundTokens(layer.QKAttention(16, 4, **EASY)), 2, 3),
    "TokenQKAttention": (lambda: AroundTokens(layer.TokenQKAttention(16, 2, **EASY)), 2, 3),
    "ChannelQKAttention": (lambda: AroundTokens(layer.ChannelQKAttention(16, 2, **EASY)), 2, 3),
    "SpikeDrivenSelfAttention": (
        lambda: AroundTokens(layer.SpikeDrivenSelfAttention(16, 2, **EASY), is_map=True),
        4,
        5,
    ),
}


@pytest.mark.parametrize("name", ATTENTION)
def test_an_attention_layer_lifts(name: str) -> None:
    make, maskable, bn_pairs = ATTENTION[name]
    torch.manual_seed(0)
    x = torch.rand(3, 2, 3, 6, 6) * 2
    check_zoo_model(settle(make(), x), x, maskable=maskable, bn_pairs=bn_pairs)


OVER_TIME: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "TemporalWiseAttention": (
        lambda: AroundTokens(layer.TemporalWiseAttention(3, 2), is_map=True),
        r"layer 'attention\.sharedMLP\.0' \(Linear\) computes over the last 1 dimensions, which hold time",
    ),
    "MultiDimensionalAttention": (
        lambda: AroundTokens(layer.MultiDimensionalAttention(3, 16, 2, 4), is_map=True),
        r"layer 'attention\.ta\.sharedMLP\.0' \(Conv3d\) gets a sequence with time in dimension 1",
    ),
    "channel attention": (
        lambda: AroundTokens(layer.MultiDimensionalAttention(3, 16, 2, 4, use_temporal=False), is_map=True),
        r"layer 'attention\.ca\.avg_pool' \(AdaptiveAvgPool3d\) computes over the last 3 dimensions, which hold time",
    ),
    "spatial attention": (
        lambda: AroundTokens(
            layer.MultiDimensionalAttention(3, 16, 2, 4, use_temporal=False, use_channel=False), is_map=True
        ),
        r"flatten from \[2, 3, 16, 8, 8\] to \[2, 48, 8, 8\] mixes samples or time",
    ),
    "MASNN": (
        lambda: MASNN(
            T=3,
            num_classes=5,
            in_channels=3,
            input_size=(8, 8),
            channels=(8, 16),
            pools=(1, 2),
            fc_hidden=16,
            reduction_t=2,
            reduction_c=4,
        ),
        r"layer 'conv_blocks\.0\.attn\.ta\.sharedMLP\.0' \(Conv3d\) gets a sequence with time in dimension 1",
    ),
    "AttMSResNet": (
        lambda: AttMSResNet(T=3, num_classes=5, layers=(1, 1, 1), base_channels=8, reduction_c=4),
        r"layer 'layer1\.0\.attention\.ca\.avg_pool' \(AdaptiveAvgPool3d\) computes over the last 3 dimensions",
    ),
}


@pytest.mark.parametrize("name", OVER_TIME)
def test_attention_over_time_is_captured_and_not_lifted(name: str) -> None:
    make, message = OVER_TIME[name]
    torch.manual_seed(0)
    x = torch.rand(3, 2, 3, 8, 8) * 2
    model = settle(make(), x)
    captured = capture(model, x)
    with torch.no_grad():
        check_captured(model, captured, x)
        check_captured(model, captured, torch.rand(3, 3, 3, 8, 8))
    with pytest.raises(CaptureError, match=message):
        lift(captured, x)


class PaperAttention(nn.Module):
    """Spiking self attention as the code of Spikformer writes it: tokens [T, B, N, C] and linear layers."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads, self.scale = num_heads, 0.125
        for name in ("q", "k", "v", "proj"):
            setattr(self, f"{name}_linear", nn.Linear(dim, dim))
            setattr(self, f"{name}_bn", nn.BatchNorm1d(dim))
            setattr(self, f"{name}_lif", neuron.LIFNode(step_mode="m", detach_reset=True))
        self.attn_lif = neuron.LIFNode(step_mode="m", v_threshold=0.5, detach_reset=True)

    def project(self, name: str, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        linear, bn, lif = (getattr(self, f"{name}_{part}") for part in ("linear", "bn", "lif"))
        y = bn(linear(x).transpose(-1, -2)).transpose(-1, -2).reshape(*shape).contiguous()
        return lif(y)  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        t, b, n, c = x.shape
        flat = x.flatten(0, 1)
        q, k, v = (
            self.project(name, flat, x.shape)
            .reshape(t, b, n, self.num_heads, c // self.num_heads)
            .permute(0, 1, 3, 2, 4)
            .contiguous()
            for name in "qkv"
        )
        attn = (q @ k.transpose(-2, -1)) * self.scale
        x = self.attn_lif((attn @ v).transpose(2, 3).reshape(t, b, n, c).contiguous())
        return self.project("proj", x.flatten(0, 1), (t, b, n, c))


class PaperTransformer(nn.Module):
    """Patches by a strided convolution, a learned position for each token, one block, mean over tokens and time."""

    def __init__(self, num_steps: int = 3, dim: int = 16) -> None:
        super().__init__()
        self.num_steps = num_steps
        self.patch_conv, self.patch_bn = nn.Conv2d(3, dim, 4, 4, bias=False), nn.BatchNorm2d(dim)
        self.patch_lif = neuron.LIFNode(step_mode="m", detach_reset=True)
        self.positions = nn.Parameter(torch.rand(1, 16, dim) * 0.1)
        self.attention = PaperAttention(dim, 4)
        self.fc1, self.fc2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.lif1 = neuron.LIFNode(step_mode="m", v_threshold=0.2, detach_reset=True)
        self.head = nn.Linear(dim, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = x.unsqueeze(0).repeat(self.num_steps, 1, 1, 1, 1)
        t, b, _, h, w = x.shape
        x = self.patch_bn(self.patch_conv(x.flatten(0, 1))).reshape(t, b, -1, h // 4, w // 4).contiguous()
        x = self.patch_lif(x).flatten(-2).transpose(-1, -2) + self.positions
        x = x + self.attention(x)
        x = x + self.fc2(self.lif1(self.fc1(x)))
        return self.head(x.mean(2)).mean(0)  # type: ignore[no-any-return]


def test_the_form_of_papers_lifts() -> None:
    torch.manual_seed(0)
    x = torch.rand(IMAGES) * 2
    # the norms of q, k, v and proj run over transposed tokens: they stay
    check_zoo_model(settle(PaperTransformer(), x), x, maskable=5, bn_pairs=1)


class SingleStepTransformer(nn.Module):
    """One step at a time, neurons written with this package, images repeated in a python loop."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, 4)
        self.qkv, self.head = nn.Linear(16, 48), nn.Linear(16, 10)
        self.lif0, self.lif1, self.lif2 = (IF(v_threshold=0.3, step_mode="s") for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        outputs = []
        for _ in range(4):
            tokens = self.lif0(self.patches(x)).flatten(2).transpose(1, 2)
            batch, n, _ = tokens.shape
            q, k, v = self.lif1(self.qkv(tokens)).reshape(batch, n, 3, 2, 8).permute(2, 0, 3, 1, 4)
            attended = (q @ (k.transpose(-2, -1) @ v)).transpose(1, 2).flatten(2)
            outputs.append(self.head(self.lif2(attended * 0.125).mean(1)))
        return torch.stack(outputs).mean(0)


def test_a_python_loop_over_time_lifts() -> None:
    torch.manual_seed(0)
    x = torch.rand(IMAGES) * 2
    check_zoo_model(SingleStepTransformer(), x, maskable=1, bn_pairs=0)


@pytest.mark.parametrize("make", [SPIKFORMER, SDT], ids=["spikformer", "sdt"])
def test_layers_that_read_spikes_learn_masks(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    x, labels = torch.rand(IMAGES) * 2, torch.tensor([1, 3])
    model = settle(make(), x)
    report: list[str] = []
    transform(model.train(), "2:4", example_inputs=x, report=report.append)
    masked = [name for name, _, _ in masked_layers(model)]
    inside = [n for n, m in model.named_modules() if n.startswith("blocks.") and isinstance(m, nn.Conv1d | nn.Conv2d)]
    assert inside == [name for name in masked if name.startswith("blocks.")]
    assert all(name in report[0] for name in inside)

    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    before = [learner.get_parameter("logits").detach().clone() for _, _, learner in masked_layers(model)]
    loss = nn.functional.cross_entropy(_logits(model(x)), labels)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    functional.reset_net(model)
    after = [learner.get_parameter("logits").detach() for _, _, learner in masked_layers(model)]
    assert not any(torch.equal(a, b) for a, b in zip(before, after, strict=True))

    fold(model.eval())
    for name in masked:
        assert Pattern(2, 4).holds(model.get_parameter(f"{name}.weight"))
    check_zoo_model(model, x, maskable=len(masked), bn_pairs=num_bn_pairs(lift(capture(model, x), x)))


def _logits(output: Tensor) -> Tensor:
    """Spikformer returns every step."""
    return output.mean(0) if output.dim() == 3 else output


@pytest.mark.parametrize("name", ["spikformer", "sdt", "qkformer of tokens", "maxformer for CIFAR"])
def test_a_transformer_is_not_lowered_and_the_message_names_the_node(name: str) -> None:
    torch.manual_seed(0)
    x = torch.rand(IMAGES)
    model = SMALL_MODELS[name][0]().eval()
    with pytest.raises(PassError, match=r"node '\w+' calls \w+, which has no form in whole numbers; .* not lowered"):
        lower(model, x)


def test_every_layer_of_neurons_is_named_as_in_the_model() -> None:
    torch.manual_seed(0)
    x = torch.rand(EVENTS) * 2
    model = settle(SPIKFORMER(), x)
    step_graph = lift(capture(model, x), x)
    neurons = [name for name, module in model.named_modules() if isinstance(module, neuron.LIFNode)]
    assert sorted(spike_nodes(step_graph)) == sorted(neurons)
    with torch.no_grad():
        spikes = run_steps(step_graph, x).spikes["blocks.0.attn.qkv_lif"]
    assert spikes.shape == (3, 2, 96, 16)
