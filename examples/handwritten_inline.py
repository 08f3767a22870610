"""A spiking network whose neurons are code in forward, as in many repositories of papers: nothing has to be rewritten.

Build it, prove the artifact, look at it:

    python -m spikenm_compile.build examples/handwritten_inline.py:make --out out/inline
    python -m spikenm_compile verify out/inline examples/handwritten_inline.py:make
    python -m spikenm_compile inspect out/inline

Train it sparse before, with your own loop, and build with what was learned:

    model, x = make()
    spikenm_compile.transform(model, "2:4", example_inputs=x, total_steps=...)
    ...                                                        # train as ever
    spikenm_compile.fold(model)
    safetensors.torch.save_file(model.state_dict(), "inline.safetensors")

    python -m spikenm_compile.build examples/handwritten_inline.py:make --weights inline.safetensors --out out/inline
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

NUM_STEPS = 6
INPUTS, HIDDEN, CLASSES = 32, 64, 10
THRESHOLD, TAU = 0.5, 0.5


class Rectangle(torch.autograd.Function):
    """Spike above zero; the gradient is 1 near the threshold."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """0 or 1."""
        ctx.save_for_backward(x)
        return (x > 0).float()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        """Surrogate gradient."""
        (x,) = ctx.saved_tensors
        gradient: Tensor = grads[0] * (x.abs() < 0.5).float()
        return gradient


class InlineMlp(nn.Module):
    """Three layers; the potentials are a list, and reset by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(INPUTS, HIDDEN), nn.Linear(HIDDEN, HIDDEN), nn.Linear(HIDDEN, CLASSES)])

    def forward(self, x: Tensor) -> Tensor:
        """[T, B, 32] to firing rates [B, 10]."""
        mem: list[Any] = [0.0] * len(self.layers)
        rates = torch.zeros(x.shape[1], CLASSES, device=x.device)
        for t in range(x.shape[0]):
            spikes = x[t]
            for i, layer in enumerate(self.layers):
                mem[i] = TAU * mem[i] + layer(spikes)
                spikes = Rectangle.apply(mem[i] - THRESHOLD)  # type: ignore[no-untyped-call]
                mem[i] = mem[i] * (1 - spikes.detach())
            rates = rates + spikes
        return rates / x.shape[0]


def make() -> tuple[nn.Module, Tensor]:
    """The network and four input sequences [T, B, 32]; the same at each call."""
    torch.manual_seed(0)
    model = InlineMlp()
    for layer in model.layers:
        assert isinstance(layer, nn.Linear)
        nn.init.kaiming_uniform_(layer.weight)  # enough current for spikes before any training
    return model, torch.rand(NUM_STEPS, 4, INPUTS)
