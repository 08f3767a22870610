from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import Tensor, nn
from zoo import check_captured, check_zoo_model, num_maskable, settle, torchvision_stub

from spikenm_compile.errors import CaptureError
from spikenm_compile.frontend.capture import capture
from spikenm_compile.frontend.lift import lift

with torchvision_stub():
    from spikingjelly.activation_based.model import (
        masnn,
        ms_resnet,
        parametric_lif_net,
        sew_resnet,
        snas_net,
        spike_dhs,
        spiking_resnet,
        spiking_vgg,
        spiking_vggws_ottt,
    )

T, B = 2, 2
Case = tuple[Callable[[], nn.Module], tuple[int, ...], int, int]
"""(makes the model, shape of its input, layers that learn a mask, batch norms that fold)."""


def options(kind: str, **more: Any) -> dict[str, Any]:
    surrogates = {"surrogate_function": surrogate.ATan(), "detach_reset": True, "v_threshold": 0.1}
    return {"spiking_neuron": getattr(neuron, kind), **surrogates, **more}


def multi_step(make: Callable[..., nn.Module], kind: str = "LIFNode", **more: Any) -> nn.Module:
    model = make(**options(kind, **more))
    functional.set_step_mode(model, "m")
    return model


class Loop(nn.Module):
    """A single-step network, called once for each step of its input."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.network(x_t) for x_t in x]).mean(0)


def sew(name: str, join: str, **more: Any) -> Callable[[], nn.Module]:
    return partial(multi_step, getattr(sew_resnet, name), "IFNode", cnf=join, num_classes=10, **more)


def resnet(name: str, **more: Any) -> Callable[[], nn.Module]:
    return partial(multi_step, getattr(spiking_resnet, name), num_classes=10, **more)


def vgg(name: str, kind: str = "LIFNode", **more: Any) -> Callable[[], nn.Module]:
    return partial(multi_step, getattr(spiking_vgg, name), kind, num_classes=10, **more)


def parametric(name: str) -> Callable[[], nn.Module]:
    return partial(multi_step, getattr(parametric_lif_net, name), "ParametricLIFNode", channels=8)


def single_step(name: str, kind: str, **more: Any) -> Callable[[], nn.Module]:
    return lambda: Loop(getattr(spiking_vggws_ottt, name)(**options(kind, num_classes=10, **more)))


SMALL, TINY = (T, B, 3, 32, 32), (T, B, 3, 16, 16)
TDBN = partial(layer.ThresholdDependentBatchNorm2d, 1.0, 0.1)

ZOO: dict[str, Case] = {
    "sew_resnet18 ADD": (sew("sew_resnet18", "ADD"), SMALL, 19, 20),
    "sew_resnet18 AND": (sew("sew_resnet18", "AND"), SMALL, 19, 20),
    "sew_resnet18 IAND": (sew("sew_resnet18", "IAND"), SMALL, 19, 20),
    "sew_resnet50": (sew("sew_resnet50", "ADD"), TINY, 52, 53),
    "spiking_resnet18": (resnet("spiking_resnet18"), SMALL, 19, 20),
    "spiking_resnet18 tdBN": (resnet("spiking_resnet18", norm_layer=TDBN), TINY, 19, 20),
    "spiking_vgg11_bn": (vgg("spiking_vgg11_bn"), SMALL, 9, 8),
    "ms_resnet18": (partial(ms_resnet.ms_resnet18, T=T, num_classes=10), SMALL[1:], 19, 21),
    "max_resnet18": (partial(ms_resnet.max_resnet18, T=T, num_classes=10), TINY[1:], 18, 20),
    "MNISTNet": (parametric("MNISTNet"), (T, B, 1, 28, 28), 3, 2),
    "FashionMNISTNet": (parametric("FashionMNISTNet"), (T, B, 1, 28, 28), 3, 2),
    "NMNISTNet": (parametric("NMNISTNet"), (T, B, 2, 34, 34), 3, 2),
    "CIFAR10Net": (parametric("CIFAR10Net"), SMALL, 7, 6),
    "CIFAR10DVSNet": (parametric("CIFAR10DVSNet"), (T, B, 2, 128, 128), 5, 4),
    "DVSGestureNet": (parametric("DVSGestureNet"), (T, B, 2, 128, 128), 6, 5),
    "ottt_spiking_vggws": (single_step("ottt_spiking_vggws", "OTTTLIFNode"), TINY, 0, 0),
}

LARGE: dict[str, Case] = {
    "max_resnet18 of a sequence": (partial(ms_resnet.max_resnet18, num_classes=10), TINY, 18, 20),
    "sew_resnext50_32x4d": (sew("sew_resnext50_32x4d", "IAND"), SMALL, 52, 53),
    "sew_resnet34": (sew("sew_resnet34", "ADD"), SMALL, 35, 36),
    "sew_resnet101": (sew("sew_resnet101", "AND"), SMALL, 103, 104),
    "sew_resnet152": (sew("sew_resnet152", "IAND"), SMALL, 154, 155),
    "sew_resnext101_32x8d": (sew("sew_resnext101_32x8d", "ADD"), SMALL, 103, 104),
    "sew_wide_resnet50_2": (sew("sew_wide_resnet50_2", "ADD"), SMALL, 52, 53),
    "sew_wide_resnet101_2": (sew("sew_wide_resnet101_2", "ADD"), SMALL, 103, 104),
    "spiking_resnet34": (resnet("spiking_resnet34"), SMALL, 35, 36),
    "spiking_resnet50": (resnet("spiking_resnet50"), SMALL, 52, 53),
    "spiking_resnet101": (resnet("spiking_resnet101"), SMALL, 103, 104),
    "spiking_resnet152": (resnet("spiking_resnet152"), SMALL, 154, 155),
    "spiking_resnext50_32x4d": (resnet("spiking_resnext50_32x4d"), SMALL, 52, 53),
    "spiking_resnext101_32x8d": (resnet("spiking_resnext101_32x8d"), SMALL, 103, 104),
    "spiking_wide_resnet50_2": (resnet("spiking_wide_resnet50_2"), SMALL, 52, 53),
    "spiking_wide_resnet101_2": (resnet("spiking_wide_resnet101_2"), SMALL, 103, 104),
    "ms_resnet34": (partial(ms_resnet.ms_resnet34, T=T, num_classes=10), SMALL[1:], 35, 37),
    "spiking_vgg11": (vgg("spiking_vgg11"), SMALL, 9, 0),
    "spiking_vgg13": (vgg("spiking_vgg13"), SMALL, 11, 0),
    "spiking_vgg13_bn": (vgg("spiking_vgg13_bn"), SMALL, 11, 10),
    "spiking_vgg16": (vgg("spiking_vgg16"), SMALL, 14, 0),
    "spiking_vgg16_bn": (vgg("spiking_vgg16_bn"), SMALL, 14, 13),
    "spiking_vgg19": (vgg("spiking_vgg19"), SMALL, 17, 0),
    "spiking_vgg19_bn": (vgg("spiking_vgg19_bn"), SMALL, 17, 16),
    **{
        f"ottt_spiking_vgg{depth}": (single_step(f"ottt_spiking_vgg{depth}", "OTTTLIFNode"), SMALL, maskable, 0)
        for depth, maskable in (
            *(("11", 9), ("13", 11), ("16", 14), ("19", 17)),
            *((f"{depth}_ws", 0) for depth in (11, 13, 16, 19)),
        )
    },
    "ottt_spiking_vgg11 of SLTT neurons": (single_step("ottt_spiking_vgg11", "SLTTLIFNode"), SMALL, 9, 0),
}


def check(case: Case) -> None:
    make, shape, maskable, bn_pairs = case
    x = torch.rand(shape) * 2
    model = settle(make(), x)
    check_zoo_model(model, x, maskable=maskable, bn_pairs=bn_pairs, any_steps=not isinstance(model, Loop))


@pytest.mark.parametrize("name", ZOO)
def test_model_of_the_zoo(name: str) -> None:
    check(ZOO[name])


@pytest.mark.long
@pytest.mark.parametrize("name", LARGE)
def test_large_model_of_the_zoo(name: str) -> None:
    check(LARGE[name])


@torch.no_grad()
def test_attention_over_time_is_captured_and_not_lifted() -> None:
    """It weighs each step by statistics of all steps: there is no step to compute before the last input is there."""
    models: dict[str, tuple[nn.Module, Tensor]] = {
        "att_ms_resnet18": (masnn.att_ms_resnet18(T=T, num_classes=10), torch.rand(TINY[1:])),
        "MASNN": (
            masnn.MASNN(
                T=T,
                in_channels=3,
                num_classes=10,
                input_size=(16, 16),
                channels=(8, 16),
                pools=(2, 2),
                fc_hidden=32,
                reduction_t=1,
                reduction_c=2,
                v_threshold=0.05,
            ),
            torch.rand(TINY) * 2,
        ),
    }
    for model, x in models.values():
        captured = capture(settle(model, x), x)
        check_captured(model, captured, x)
        check_captured(model, captured, torch.cat([x, x], dim=x.dim() - 4))
        assert num_maskable(captured) > 1
        with pytest.raises(CaptureError, match=r"form in a step graph|combines time steps|hold time"):
            lift(captured, x)


def search_cells(kind: str) -> nn.Module:
    """SNASNet with each kind of operation in its cells: none, identity, both convolutions and a pool."""
    forward = torch.tensor([[0, 2, 3, 4], [0, 0, 1, 2], [0, 0, 0, 3], [0, 0, 0, 0]])
    backward = torch.tensor([[0, 2, 3, 4], [2, 0, 1, 2], [4, 1, 0, 3], [2, 1, 3, 0]])
    args = SimpleNamespace(timestep=T, second_avgpooling=4, dataset="cifar10", celltype=kind, threshold=0.1, tau=4 / 3)
    torch.manual_seed(0)
    model: nn.Module = snas_net.SNASNet(args, forward if kind == "forward" else backward)
    return model


@torch.no_grad()
def check_search_cells(kind: str) -> tuple[torch.fx.GraphModule, Tensor]:
    x = torch.rand(1, 3, 32, 32)
    model = settle(search_cells(kind), x)
    captured = capture(model, x)
    for y in (x, torch.rand(2, 3, 32, 32)):
        check_captured(model, captured, y)
    return captured, torch.rand(2, 3, 32, 32)


def test_search_cells_are_captured() -> None:
    check_search_cells("forward")


@pytest.mark.long
def test_feedback_between_cells_is_captured_and_not_lifted() -> None:
    captured, x = check_search_cells("backward")
    with pytest.raises(CaptureError, match="step"):
        lift(captured, x)


@torch.no_grad()
def test_spike_dhs_is_captured() -> None:
    """Upsampling containers made in forward, neurons of a class of their own, and (logits, None) as output."""
    args = SimpleNamespace(fea_step=3, fea_num_layers=8, fea_block_multiplier=3, fea_filter_multiplier=48)
    model = spike_dhs.SpikeDHS(3, args)
    functional.set_step_mode(model, "m")
    x = torch.rand(1, 3, 16, 16)
    settle(model, torch.rand(1, 3, 32, 32))
    check_captured(model, capture(model, x), x)


def test_a_captured_model_trains_like_the_model() -> None:
    x = torch.rand(TINY) * 2
    model = sew("sew_resnet18", "IAND")()
    results = []
    for one in (model, capture(model, x)):
        functional.reset_net(one)
        model.zero_grad()
        one(x).square().mean().backward()
        results.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    functional.reset_net(model)
    assert len(results[0]) == len(list(model.parameters()))
    assert any(g.any() for g in results[0])
    assert all(map(torch.equal, *results))
