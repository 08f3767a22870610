"""The SEW-ResNets for event cameras (Fang et al., NeurIPS 2021, section 4.2): a block and a max pool, several times.

7B-Net is c32-{block-pool}×7, Wide-7B-Net c64-{block-pool}×4-c128-{block-pool}×3, both for 128 × 128 pixels; smaller
images leave out the pools for which they are too small.
"""

from __future__ import annotations

from torch import nn

from spikenm_compile.training.networks.blocks import Classifier, PerStep, SewBlock, Spiking
from spikenm_compile.training.networks.neurons import NeuronOptions
from spikenm_compile.training.networks.task import Task


def sew7b(task: Task, neuron: NeuronOptions, *, width: int = 32) -> nn.Module:
    """7B-Net."""
    return _make("sew7b", ((width, 7),), task, neuron)


def wide_sew7b(task: Task, neuron: NeuronOptions, *, width: int = 64) -> nn.Module:
    """Wide-7B-Net."""
    return _make("wide-sew7b", ((width, 4), (2 * width, 3)), task, neuron)


def _make(name: str, stages: tuple[tuple[int, int], ...], task: Task, neuron: NeuronOptions) -> nn.Module:
    height, across = task.image(name)
    layers: list[nn.Module] = []
    inputs = task.channels
    for width, count in stages:
        layers.append(Spiking(inputs, width, neuron=neuron))
        inputs = width
        for _ in range(count):
            layers.append(SewBlock(width, width, 1, neuron=neuron))
            if min(height, across) > 1:
                layers.append(PerStep(nn.MaxPool2d(2)))
                height, across = height // 2, across // 2
    num_steps = None if task.has_time else task.num_steps
    return Classifier(nn.Sequential(*layers), inputs * height * across, task.classes, num_steps)
