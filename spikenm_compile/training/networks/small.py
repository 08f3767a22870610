"""Small networks: those for the data sets that are made here, and linear layers for samples that are no images."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import nn

from spikenm_compile.errors import InputError
from spikenm_compile.training.digits import digits_net
from spikenm_compile.training.event_digits import SIZE as EVENT_SIZE
from spikenm_compile.training.event_digits import event_digits_net
from spikenm_compile.training.gestures import CLASSES, SIZE, GestureNet
from spikenm_compile.training.networks.blocks import Classifier, SpikingLinear
from spikenm_compile.training.networks.neurons import NeuronOptions
from spikenm_compile.training.networks.task import Task


def digits(task: Task) -> nn.Module:
    """The network of `spikenm_compile.training.digits`; its neurons are fixed."""
    _refuse_other(task, "digits", (1, 8, 8), 10, has_time=False)
    return digits_net(task.num_steps)


def gestures(task: Task) -> nn.Module:
    """The network of `spikenm_compile.training.gestures`; its neurons are fixed."""
    _refuse_other(task, "gestures", (2, SIZE, SIZE), len(CLASSES), has_time=True)
    return GestureNet()


def event_digits(task: Task, *, width: int = 32) -> nn.Module:
    """The network of `spikenm_compile.training.event_digits`; its neurons are fixed."""
    _refuse_other(task, "event-digits", (2, EVENT_SIZE, EVENT_SIZE), 10, has_time=True)
    return event_digits_net(width)


def mlp(task: Task, neuron: NeuronOptions, *, hidden: tuple[int, ...] = (256, 256)) -> nn.Module:
    """Spiking linear layers of the widths `hidden`."""
    widths = (math.prod(task.sample), *hidden)
    layers = [SpikingLinear(i, o, neuron=neuron) for i, o in pairwise(widths)]
    features = nn.Sequential(nn.Flatten(2), *layers)
    return Classifier(features, widths[-1], task.classes, None if task.has_time else task.num_steps)


def _refuse_other(task: Task, name: str, sample: tuple[int, ...], classes: int, *, has_time: bool) -> None:
    if (task.sample, task.classes, task.has_time) != (sample, classes, has_time):
        raise InputError(
            f"network '{name}' is made for samples {list(sample)} {'that change over' if has_time else 'without'} time "
            f"and {classes} classes, and the data have {list(task.sample)} {'over' if task.has_time else 'without'} "
            f"time and {task.classes} classes; use another network, vgg11 for example"
        )
