"""A convolutional spiking network in SpikingJelly's multi-step mode, on a sequence of event frames.

Build it, prove the artifact, look at it:

    python -m spikenm_compile.build examples/spikingjelly_csnn.py:make --out out/csnn
    python -m spikenm_compile verify out/csnn examples/spikingjelly_csnn.py:make
    python -m spikenm_compile inspect out/csnn

Train it sparse before, with your own loop, and build with what was learned:

    model, x = make()
    spikenm_compile.transform(model, "2:4", example_inputs=x, total_steps=...)
    ...                                                        # train as ever
    spikenm_compile.fold(model)
    safetensors.torch.save_file(model.state_dict(), "csnn.safetensors")

    python -m spikenm_compile.build examples/spikingjelly_csnn.py:make --weights csnn.safetensors --out out/csnn
"""

from __future__ import annotations

import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import Tensor, nn

NUM_STEPS = 8
SIZE = 16
"""Height and width of a frame."""
NUM_CLASSES = 11


class SpikingBlock(nn.Sequential):
    """Convolution, batch norm and neurons on [T, B, C, H, W]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = layer.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm = layer.BatchNorm2d(outputs)
        self.neuron = neuron.ParametricLIFNode(
            decay_input=False, surrogate_function=surrogate.ATan(), detach_reset=True
        )
        nn.init.constant_(self.norm.weight, 3.0)  # enough current for spikes before any training


class SpikingCnn(nn.Module):
    """Two convolutions and two linear layers; the output is the spikes of the last one at each step."""

    def __init__(self) -> None:
        super().__init__()
        self.block1 = SpikingBlock(2, 16)
        self.block2 = SpikingBlock(16, 32)
        self.pool = layer.MaxPool2d(2)
        self.flatten = layer.Flatten()
        self.hidden = layer.Linear(32 * (SIZE // 4) ** 2, 64, bias=False)
        self.hidden_neuron = neuron.LIFNode(
            decay_input=False, v_threshold=0.5, surrogate_function=surrogate.ATan(), detach_reset=True
        )
        self.classifier = layer.Linear(64, NUM_CLASSES)
        self.output_neuron = neuron.IFNode(v_threshold=0.5, surrogate_function=surrogate.ATan(), detach_reset=True)
        functional.set_step_mode(self, "m")

    def forward(self, frames: Tensor) -> Tensor:
        """[T, B, 2, 16, 16] to spikes [T, B, 11]; reset the network before each call."""
        x = self.pool(self.block2(self.pool(self.block1(frames))))
        x = self.hidden_neuron(self.hidden(self.flatten(x)))
        spikes: Tensor = self.output_neuron(self.classifier(x))
        return spikes


def make() -> tuple[nn.Module, Tensor]:
    """The network and two sequences of event frames [T, B, 2, 16, 16]; the same at each call."""
    torch.manual_seed(0)
    return SpikingCnn(), (torch.rand(NUM_STEPS, 2, 2, SIZE, SIZE) < 0.2).float()
