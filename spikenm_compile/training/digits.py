"""Handwritten digits of scikit-learn, 8×8 pixels, and a spiking network for them written as users write theirs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spikenm_compile.errors import ToolError
from spikenm_compile.neurons import LIF

TEST_SHARE = 0.2


@dataclass(frozen=True)
class ImageData:
    """Images [N, C, H, W] float32 in 0..1 with labels [N] int64, split for training and test."""

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor


def all_digits() -> tuple[Tensor, Tensor]:
    """The 1797 digits as images [N, 1, 8, 8] and labels [N].

    Raises:
        ToolError: scikit-learn is not installed.
    """
    try:
        from sklearn import datasets
    except ImportError as error:
        raise ToolError(
            "scikit-learn is not installed; the digits come with it; use pip install 'spikenm-compile[demo]'"
        ) from error
    digits = datasets.load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16.0
    return images, torch.tensor(digits.target, dtype=torch.int64)


def load_digits(seed: int = 0) -> ImageData:
    """The digits with a fifth of them for test; `seed` decides which.

    Raises:
        ToolError: scikit-learn is not installed.
    """
    return split_digits(*all_digits(), seed)


def split_digits(images: Tensor, labels: Tensor, seed: int) -> ImageData:
    """A fifth of images [N, ...] and labels [N] for test, the rest for training; `seed` decides which."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    test, train = order[: int(len(labels) * TEST_SHARE)], order[int(len(labels) * TEST_SHARE) :]
    return ImageData(images[train], labels[train], images[test], labels[test])


class SpikingConv(nn.Module):
    """Convolution, batch norm and LIF over T time steps; the first two see time and batch as one dimension."""

    def __init__(self, inputs: int, outputs: int, num_steps: int, stride: int = 1) -> None:
        super().__init__()
        self.num_steps = num_steps
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.lif = LIF(tau=2.0, decay_input=False)

    def forward(self, x: Tensor) -> Tensor:
        """[T, B, I, H, W] to spikes [T, B, O, H', W']."""
        current = self.norm(self.conv(x.flatten(0, 1)))
        spikes: Tensor = self.lif(current.unflatten(0, (self.num_steps, -1)))
        return spikes


class DigitsNet(nn.Module):
    """Four spiking convolutions and a linear classifier; the output is the mean over the time steps."""

    def __init__(self, num_steps: int) -> None:
        super().__init__()
        self.num_steps = num_steps
        self.block1 = SpikingConv(1, 16, num_steps)
        self.block2 = SpikingConv(16, 32, num_steps, stride=2)
        self.block3 = SpikingConv(32, 32, num_steps)
        self.block4 = SpikingConv(32, 32, num_steps, stride=2)
        self.classifier = nn.Linear(32 * 2 * 2, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 1, 8, 8] to class logits [B, 10]; reset the neurons before each call."""
        x = images.unsqueeze(0).repeat(self.num_steps, 1, 1, 1, 1)
        x = self.block4(self.block3(self.block2(self.block1(x))))
        logits = self.classifier(x.flatten(0, 1).flatten(1))
        mean: Tensor = logits.unflatten(0, (self.num_steps, -1)).mean(0)
        return mean


def digits_net(num_steps: int = 4) -> DigitsNet:
    """A fresh network for `load_digits`."""
    return DigitsNet(num_steps)
