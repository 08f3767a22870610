"""Data and network of a run."""

from __future__ import annotations

from functools import lru_cache

from torch import nn

from benchmarks.learning_runs import Run
from spikenm_compile.training.digits import ImageData, digits_net, load_digits, split_digits
from spikenm_compile.training.event_digits import EventDigitsNet, load_event_digits


@lru_cache(maxsize=2)
def _split(data: str, split: int) -> ImageData:
    return load_digits(split) if data == "digits" else load_event_digits(split)


def data_of(run: Run) -> ImageData:
    """The data of a run: a validation run never sees the test part."""
    data = _split(run.data, run.split)
    return split_digits(data.train_images, data.train_labels, run.split) if run.validate else data


def network(run: Run) -> nn.Module:
    """The untrained network; the global generator decides its weights."""
    model = digits_net() if run.data == "digits" else EventDigitsNet(channels_of(run))
    if run.training().he_normal:
        for convolution in (module for module in model.modules() if isinstance(module, nn.Conv2d)):
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    return model


def channels_of(run: Run) -> tuple[int, int, int, int]:
    """Output channels of the four convolutions."""
    if "-" not in run.net:
        width = int(run.net)
        return width // 2, width, width, width
    first, second, third = (int(number) for number in run.net.split("-"))
    return first, second, third, third
