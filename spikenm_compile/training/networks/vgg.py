"""VGG with spiking neurons: plans of widths in units of the first layer's, 0 for a pool of 2 by 2.

VGG-11 and VGG-16 are configurations A and D of Simonyan and Zisserman (ICLR 2015) with one linear layer at the end, as
usual for CIFAR. VGGSNN is the network that Deng et al. (ICLR 2022, "Temporal efficient training ...") use for
CIFAR10-DVS.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from spikenm_compile.errors import InputError
from spikenm_compile.training.networks.blocks import Classifier, PerStep, Spiking
from spikenm_compile.training.networks.neurons import NeuronOptions
from spikenm_compile.training.networks.task import Task

VGG11 = (1, 0, 2, 0, 4, 4, 0, 8, 8, 0, 8, 8, 0)
VGG16 = (1, 1, 0, 2, 2, 0, 4, 4, 4, 0, 8, 8, 8, 0, 8, 8, 8, 0)
VGGSNN = (1, 2, 0, 4, 4, 0, 8, 8, 0, 8, 8, 0)


def vgg11(task: Task, neuron: NeuronOptions, *, width: int = 64) -> nn.Module:
    """VGG-11 with max pools; `width` is that of the first layer."""
    return _vgg("vgg11", VGG11, nn.MaxPool2d, task, neuron, width)


def vgg16(task: Task, neuron: NeuronOptions, *, width: int = 64) -> nn.Module:
    """VGG-16 with max pools; `width` is that of the first layer."""
    return _vgg("vgg16", VGG16, nn.MaxPool2d, task, neuron, width)


def vggsnn(task: Task, neuron: NeuronOptions, *, width: int = 64) -> nn.Module:
    """VGGSNN with average pools; `width` is that of the first layer."""
    return _vgg("vggsnn", VGGSNN, nn.AvgPool2d, task, neuron, width)


def _vgg(
    name: str, plan: tuple[int, ...], pool: Callable[[int], nn.Module], task: Task, neuron: NeuronOptions, width: int
) -> nn.Module:
    height, across = task.image(name)
    shrink = 2 ** plan.count(0)
    if min(height, across) < shrink:
        raise InputError(
            f"network '{name}' halves an image {plan.count(0)} times, and {height} × {across} pixels are too few; use "
            f"images of {shrink} × {shrink} or more"
        )
    layers: list[nn.Module] = []
    inputs = task.channels
    for multiple in plan:
        outputs = multiple * width
        layers.append(Spiking(inputs, outputs, neuron=neuron) if multiple else PerStep(pool(2)))
        inputs = outputs or inputs
    features = inputs * (height // shrink) * (across // shrink)
    return Classifier(nn.Sequential(*layers), features, task.classes, None if task.has_time else task.num_steps)
