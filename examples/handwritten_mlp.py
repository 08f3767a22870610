"""A spiking network written by hand: neurons of `spikenm_compile.neurons` that take one step, and a loop over time.

Build it, prove the artifact, look at it:

    python -m spikenm_compile.build examples/handwritten_mlp.py:make --out out/mlp
    python -m spikenm_compile verify out/mlp examples/handwritten_mlp.py:make
    python -m spikenm_compile inspect out/mlp

Train it sparse before, with your own loop, and build with what was learned:

    model, x = make()
    spikenm_compile.transform(model, "2:4", example_inputs=x, total_steps=...)
    ...                                                        # train as ever
    spikenm_compile.fold(model)
    safetensors.torch.save_file(model.state_dict(), "mlp.safetensors")

    python -m spikenm_compile.build examples/handwritten_mlp.py:make --weights mlp.safetensors --out out/mlp
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spikenm_compile.neurons import LIF, ParametricLIF

NUM_STEPS = 6
INPUTS, HIDDEN, CLASSES = 32, 64, 10


class SpikingMlp(nn.Module):
    """Three layers of neurons; the output is how often each neuron of the last one fired, 0 to 1."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(INPUTS, HIDDEN)
        self.lif1 = LIF(tau=2.0, decay_input=False, step_mode="s")
        self.fc2 = nn.Linear(HIDDEN, HIDDEN)
        self.lif2 = ParametricLIF(init_tau=2.0, decay_input=False, v_reset=None, step_mode="s")
        self.fc3 = nn.Linear(HIDDEN, CLASSES)
        self.lif3 = LIF(tau=2.0, decay_input=False, v_threshold=0.25, step_mode="s")

    def forward(self, x: Tensor) -> Tensor:
        """[T, B, 32] to firing rates [B, 10]; reset the neurons before each call."""
        rates = torch.zeros(x.shape[1], CLASSES, device=x.device)
        for t in range(x.shape[0]):
            spikes = self.lif1(self.fc1(x[t]))
            spikes = self.lif2(self.fc2(spikes))
            rates = rates + self.lif3(self.fc3(spikes))
        return rates / x.shape[0]


def make() -> tuple[nn.Module, Tensor]:
    """The network and four input sequences [T, B, 32]; the same at each call."""
    torch.manual_seed(0)
    model = SpikingMlp()
    for layer in (model.fc1, model.fc2):
        nn.init.kaiming_uniform_(layer.weight)  # enough current for spikes before any training
    return model, torch.rand(NUM_STEPS, 4, INPUTS)
