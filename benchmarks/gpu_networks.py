"""The networks and layers of the GPU benchmark, with random weights: dense, and with 2:4 weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spikenm_compile.neurons import LIF
from spikenm_compile.pattern import Pattern

NUM_STEPS = 4
TWO_FOUR = Pattern(2, 4)


class Spiking(nn.Module):
    """Convolution, batch norm and LIF over T steps."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.lif = LIF(tau=2.0, decay_input=False)

    def forward(self, x: Tensor) -> Tensor:
        """[T, B, I, H, W] to spikes [T, B, O, H', W']."""
        current = self.norm(self.conv(x.flatten(0, 1)))
        spikes: Tensor = self.lif(current.unflatten(0, (NUM_STEPS, -1)))
        return spikes


class Pool(nn.Module):
    """A pool of every step."""

    def __init__(self, pool: nn.Module) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        """[T, B, C, H, W] to [T, B, C, H', W']."""
        pooled = self.pool(x.flatten(0, 1))
        steps: Tensor = pooled.unflatten(0, (NUM_STEPS, -1))
        return steps


class SewBlock(nn.Module):
    """Residual block of SEW-ResNet: the spikes of branch and shortcut add to counts."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first, self.second = Spiking(inputs, outputs, stride=stride), Spiking(outputs, outputs)
        self.shortcut = nn.Identity() if inputs == outputs else Spiking(inputs, outputs, kernel=1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        """[T, B, I, H, W] to counts [T, B, O, H', W']."""
        joined: Tensor = self.second(self.first(x)) + self.shortcut(x)
        return joined


class Classifier(nn.Module):
    """An image, repeated over T steps, through `features`; the mean of the logits over the steps."""

    def __init__(self, features: nn.Module, width: int, classes: int) -> None:
        super().__init__()
        self.features, self.linear = features, nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, H, W] to [B, classes]."""
        spikes = self.features(x.unsqueeze(0).repeat(NUM_STEPS, 1, 1, 1, 1))
        logits: Tensor = self.linear(spikes.flatten(2))
        return logits.mean(0)


def vgg16() -> nn.Module:
    """VGG-16 for CIFAR-10."""
    layers: list[nn.Module] = []
    inputs = 3
    for width in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0):
        layers.append(Spiking(inputs, width) if width else Pool(nn.MaxPool2d(2)))
        inputs = width or inputs
    return Classifier(nn.Sequential(*layers), 512, 10)


def resnet19() -> nn.Module:
    """ResNet-19 for CIFAR-10 (3 × 128, 3 × 256, 2 × 512), with SEW joins."""
    blocks = [SewBlock(i, o, s) for i, o, s in ((128, 128, 1),) * 3 + ((128, 256, 2),) + ((256, 256, 1),) * 2]
    blocks += [SewBlock(256, 512, 2), SewBlock(512, 512, 1)]
    return Classifier(nn.Sequential(Spiking(3, 128), *blocks, Pool(nn.AvgPool2d(8))), 512, 10)


def resnet18() -> nn.Module:
    """SEW-ResNet-18 for ImageNet."""
    layers: list[nn.Module] = [Spiking(3, 64, kernel=7, stride=2), Pool(nn.MaxPool2d(3, 2, 1))]
    for i, o in ((64, 64), (64, 128), (128, 256), (256, 512)):
        layers += [SewBlock(i, o, 1 if i == o else 2), SewBlock(o, o, 1)]
    return Classifier(nn.Sequential(*layers, Pool(nn.AvgPool2d(7))), 512, 1000)


@dataclass(frozen=True)
class Network:
    """A network and the batches it is measured with."""

    make: Callable[[], nn.Module]
    size: int
    """Height and width of an image."""
    batches: tuple[int, ...]


NETWORKS = {
    "VGG-16 CIFAR": Network(vgg16, 32, (64, 1)),
    "ResNet-19 CIFAR": Network(resnet19, 32, (64, 1)),
    "ResNet-18 ImageNet": Network(resnet18, 224, (32, 1)),
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
