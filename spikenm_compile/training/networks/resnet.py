"""Residual networks: ResNet-18 and ResNet-19, with shortcuts that add spikes (SEW) or currents.

ResNet-19 has the widths of Zheng et al. (AAAI 2021, "Going deeper with directly-trained larger spiking neural
networks"): 3 blocks of 128, 3 of 256, 2 of 512, and a hidden linear layer of 256. Their batch norm over time and batch
(tdBN) is the ordinary one over T·B samples where threshold and α are 1. ResNet-18 is that of He et al. (CVPR 2016) with
the blocks of SEW-ResNet (Fang et al., NeurIPS 2021).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from spikenm_compile.errors import InputError
from spikenm_compile.training.networks.blocks import (
    Classifier,
    CurrentBlock,
    PerStep,
    SewBlock,
    Spiking,
    SpikingLinear,
)
from spikenm_compile.training.networks.neurons import NeuronOptions
from spikenm_compile.training.networks.task import Task

JOINS: dict[str, type[SewBlock | CurrentBlock]] = {"spikes": SewBlock, "currents": CurrentBlock}
STEMS = ("cifar", "imagenet")

RESNET19 = ((2, 3), (4, 3), (8, 2))
"""(width in units of 64, number of blocks) of each stage; each but the first halves the image."""
RESNET18 = ((1, 2), (2, 2), (4, 2), (8, 2))


@dataclass(frozen=True, slots=True)
class _Plan:
    """One residual network."""

    name: str
    stages: tuple[tuple[int, int], ...]
    width: int
    join: str
    stem: str = "cifar"
    hidden: int = 0

    def __post_init__(self) -> None:
        if self.join not in JOINS or self.stem not in STEMS:
            raise InputError(
                f"network '{self.name}' has join = '{self.join}' and stem = '{self.stem}'; join takes "
                f"{', '.join(JOINS)}, stem takes {', '.join(STEMS)}"
            )


def resnet19(task: Task, neuron: NeuronOptions, *, width: int = 64, join: str = "spikes", hidden: int = 0) -> nn.Module:
    """ResNet-19; `width` is half that of the first layer, `hidden` the spiking linear layer before the classifier."""
    return _make(_Plan("resnet19", RESNET19, width, join, hidden=hidden), task, neuron)


def resnet18(
    task: Task, neuron: NeuronOptions, *, width: int = 64, join: str = "spikes", stem: str = "cifar"
) -> nn.Module:
    """ResNet-18; `stem`: `cifar` one 3×3 convolution, `imagenet` 7×7 of stride 2 and a max pool."""
    return _make(_Plan("resnet18", RESNET18, width, join, stem), task, neuron)


def _make(plan: _Plan, task: Task, neuron: NeuronOptions) -> nn.Module:
    width = plan.stages[0][0] * plan.width
    layers = _stem(task.channels, width, plan.stem, neuron)
    size = _halved(task.image(plan.name), 2 if plan.stem == "imagenet" else 0)
    for stage, (multiple, count) in enumerate(plan.stages):
        for block in range(count):
            stride = 2 if stage and not block else 1
            layers.append(JOINS[plan.join](width, multiple * plan.width, stride, neuron=neuron))
            width = multiple * plan.width
    layers.append(PerStep(nn.AvgPool2d(_halved(size, len(plan.stages) - 1))))
    if plan.hidden:
        layers += [nn.Flatten(2), SpikingLinear(width, plan.hidden, neuron=neuron)]
    num_steps = None if task.has_time else task.num_steps
    return Classifier(nn.Sequential(*layers), plan.hidden or width, task.classes, num_steps)


def _stem(channels: int, outputs: int, stem: str, neuron: NeuronOptions) -> list[nn.Module]:
    if stem == "cifar":
        return [Spiking(channels, outputs, neuron=neuron)]
    return [Spiking(channels, outputs, 7, 2, neuron=neuron), PerStep(nn.MaxPool2d(3, 2, 1))]


def _halved(size: tuple[int, int], times: int) -> tuple[int, int]:
    """Height and width after `times` layers of stride 2 that are padded by half their kernel."""
    for _ in range(times):
        size = -(-size[0] // 2), -(-size[1] // 2)
    return size
