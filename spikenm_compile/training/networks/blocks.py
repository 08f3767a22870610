"""What the networks are made of. Between blocks goes [T, B, C, H, W]; layers see time and batch as one dimension."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from spikenm_compile.training.networks.neurons import NeuronOptions

MakeNeuron = Callable[[], nn.Module]
LIF_NEURONS = NeuronOptions()


class PerStep(nn.Module):
    """A layer on every step."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """[T, B, ...] to [T, B, ...]."""
        steps: Tensor = self.layer(x.flatten(0, 1)).unflatten(0, (x.shape[0], -1))
        return steps


class Current(nn.Module):
    """Convolution and batch norm over time and batch."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """[T, B, I, H, W] to currents [T, B, O, H', W']."""
        steps: Tensor = self.norm(self.conv(x.flatten(0, 1))).unflatten(0, (x.shape[0], -1))
        return steps


class Spiking(Current):
    """Convolution, batch norm and neurons."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, *, neuron: MakeNeuron = LIF_NEURONS
    ) -> None:
        super().__init__(inputs, outputs, kernel, stride)
        self.lif = neuron()

    def forward(self, x: Tensor) -> Tensor:
        """[T, B, I, H, W] to spikes [T, B, O, H', W']."""
        spikes: Tensor = self.lif(super().forward(x))
        return spikes


class SpikingLinear(nn.Module):
    """Linear layer and neurons; the linear layer takes any leading dimensions."""

    def __init__(self, inputs: int, outputs: int, *, neuron: MakeNeuron = LIF_NEURONS) -> None:
        super().__init__()
        self.linear, self.lif = nn.Linear(inputs, outputs), neuron()

    def forward(self, x: Tensor) -> Tensor:
        """[T, B, I] to spikes [T, B, O]."""
        spikes: Tensor = self.lif(self.linear(x))
        return spikes


class SewBlock(nn.Module):
    """Block of SEW-ResNet with ADD (Fang et al., NeurIPS 2021): spikes of branch and shortcut add to counts."""

    def __init__(self, inputs: int, outputs: int, stride: int, *, neuron: MakeNeuron = LIF_NEURONS) -> None:
        super().__init__()
        self.first = Spiking(inputs, outputs, stride=stride, neuron=neuron)
        self.second = Spiking(outputs, outputs, neuron=neuron)
        is_same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if is_same else Spiking(inputs, outputs, 1, stride, neuron=neuron)

    def forward(self, x: Tensor) -> Tensor:
        """[T, B, I, H, W] to counts [T, B, O, H', W']."""
        joined: Tensor = self.second(self.first(x)) + self.shortcut(x)
        return joined


class CurrentBlock(nn.Module):
    """Residual block whose currents add before the neuron (Zheng et al., AAAI 2021), so that spikes stay 0 or 1."""

    def __init__(self, inputs: int, outputs: int, stride: int, *, neuron: MakeNeuron = LIF_NEURONS) -> None:
        super().__init__()
        self.first = Spiking(inputs, outputs, stride=stride, neuron=neuron)
        self.second = Current(outputs, outputs)
        is_same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if is_same else Current(inputs, outputs, 1, stride)
        self.lif = neuron()

    def forward(self, x: Tensor) -> Tensor:
        """[T, B, I, H, W] to spikes [T, B, O, H', W']."""
        spikes: Tensor = self.lif(self.second(self.first(x)) + self.shortcut(x))
        return spikes


class Stepped(nn.Module):
    """Gives a body its steps.

    Args:
        body: [T, B, ...] to its result.
        num_steps: T, where every step sees the same input; None where the input has time.
    """

    def __init__(self, body: nn.Module, num_steps: int | None) -> None:
        super().__init__()
        self.body, self.num_steps = body, num_steps

    def forward(self, x: Tensor) -> Tensor:
        """[B, ...], or [B, T, ...] of an input that has time; reset the neurons before each call."""
        steps = x.transpose(0, 1) if self.num_steps is None else torch.stack([x] * self.num_steps)
        result: Tensor = self.body(steps)
        return result


class OverTime(Stepped):
    """Class logits [B, classes]: the mean over the steps of the body's [T, B, classes]."""

    def forward(self, x: Tensor) -> Tensor:
        """Input as of `Stepped`."""
        return super().forward(x).mean(0)


class Classifier(OverTime):
    """Features, flattened, and a linear readout.

    Args:
        features: [T, B, ...] to [T, B, C, H, W] or [T, B, C].
        width: number of features of one sample at one step.
        classes: number of class logits.
        num_steps: see `Stepped`.
    """

    def __init__(self, features: nn.Module, width: int, classes: int, num_steps: int | None) -> None:
        super().__init__(nn.Sequential(features, nn.Flatten(2), nn.Linear(width, classes)), num_steps)
