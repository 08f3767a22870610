"""The networks and layers of the GPU benchmark, with random weights: dense, and with 2:4 weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spikenm_compile.neurons import LIF
from spikenm_compile.pattern import Pattern
from spikenm_compile.training.networks.table import make_network
from spikenm_compile.training.networks.task import Task

NUM_STEPS = 4
TWO_FOUR = Pattern(2, 4)


@dataclass(frozen=True)
class Network:
    """A network and the batches it is measured with."""

    make: Callable[[], nn.Module]
    size: int
    """Height and width of an image."""
    batches: tuple[int, ...]


def _images(name: str, size: int, classes: int, **options: object) -> Network:
    task = Task((3, size, size), classes, NUM_STEPS, has_time=False)
    return Network(lambda: make_network(name, task, options), size, (32 if size > 32 else 64, 1))


NETWORKS = {
    "VGG-16 CIFAR": _images("vgg16", 32, 10),
    "ResNet-19 CIFAR": _images("resnet19", 32, 10),
    "ResNet-18 ImageNet": _images("resnet18", 224, 1000, stem="imagenet"),
}


def make(network: Network, *, is_sparse: bool) -> tuple[nn.Module, Tensor]:
    """The network in eval mode, batch norms settled so that its neurons spike, and two images."""
    torch.manual_seed(0)
    model, x = network.make(), torch.rand(2, 3, network.size, network.size)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    with torch.no_grad():
        for module in model.modules():
            if is_sparse and isinstance(module, nn.Conv2d) and module.in_channels % TWO_FOUR.m == 0:
                module.weight.copy_(TWO_FOUR.project(module.weight))
        for norm in norms:
            norm.momentum = 1.0
            norm.bias.fill_(0.25)  # a share of spikes that trained networks have: some 20 %
        model.train()(x)
    for module in model.modules():
        if isinstance(module, LIF):
            module.reset()
    return model.eval(), x
