"""norse models in the forms of its documentation: what capture and lift must read."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import norse.torch as norse
import torch
import torch.nn.functional as F
from torch import Tensor, nn

NUM_STEPS = 5
FAST = norse.LIFParameters(v_th=torch.as_tensor(0.1))


def cells(out: nn.Module | None = None) -> list[nn.Module]:
    """One step of a convolutional network."""
    return [
        nn.Conv2d(1, 8, 3, padding=1),
        norse.LIFCell(FAST),
        nn.AvgPool2d(2),
        nn.Conv2d(8, 8, 3, bias=False),
        norse.LIFRefracCell(norse.LIFRefracParameters(FAST, rho_reset=torch.as_tensor(2.0))),
        nn.Flatten(),
        nn.Linear(32, 10),
        out or norse.LICell(),
    ]


class Sequential(nn.Module):
    """SequentialState over cells, called in a loop; `x` [T, B, ...]."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form
        self.net = norse.SequentialState(*cells(norse.LIFCell(FAST) if form == "spikes" else None))

    def forward(self, x: Tensor) -> Any:
        state, outputs = None, []
        for x_t in x:
            out, state = self.net(x_t, state)
            outputs.append(out)
        if self.form == "last":
            return out, state
        stacked = torch.stack(outputs)
        return stacked.sum(0) if self.form == "spikes" else torch.max(stacked, 0)[0]


class Mnist(nn.Module):
    """The MNIST example: states by hand, voltages of the readout written into a tensor; `x` [B, ...] at each step."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form
        self.conv1 = nn.Conv2d(1, 8, 3)
        self.conv2 = nn.Conv2d(8, 8, 2)
        self.fc = nn.Linear(8, 32)
        self.lif0, self.lif1 = norse.LIFCell(FAST), norse.LIFCell(FAST, dt=0.002)
        self.lif2 = norse.LSNNCell(norse.LSNNParameters(v_th=torch.as_tensor(0.1)))
        self.fc_out = nn.Linear(32, 10, bias=False)
        self.out = norse.LICell()

    def forward(self, x: Tensor) -> Tensor:
        s0 = s1 = s2 = so = None
        voltages = torch.empty(NUM_STEPS, x.shape[0], 10, device=x.device, dtype=x.dtype)
        for ts in range(NUM_STEPS):
            z, s0 = self.lif0(self.conv1(x), s0)
            z = F.max_pool2d(z, 2, 2)
            z, s1 = self.lif1(10 * self.conv2(z), s1)
            z = F.max_pool2d(z, 2, 2)
            z, s2 = self.lif2(self.fc(z.flatten(1)), s2)
            v, so = self.out(self.fc_out(z), state=so)
            if self.form == "slices":
                voltages[ts, :, :] = v
            else:
                voltages[ts] = v
        return torch.max(voltages, 0)[0] if self.form == "max" else voltages


def lifted_cells() -> nn.Module:
    """Lift over a SequentialState of cells."""
    return norse.Lift(norse.SequentialState(*cells(norse.LIFCell(FAST))))  # type: ignore[no-any-return]


def lifted_layers() -> nn.Module:
    """Layers in Lift between neurons that take whole sequences."""
    conv, _, pool, conv2, _, flatten, fc, _ = cells()
    neurons = norse.LIF(FAST), norse.LIF(norse.LIFParameters(v_th=torch.as_tensor(0.05))), norse.LI()
    return norse.SequentialState(  # type: ignore[no-any-return]
        norse.Lift(conv),
        neurons[0],
        norse.Lift(pool),
        norse.Lift(conv2),
        neurons[1],
        norse.Lift(flatten),
        fc,
        neurons[2],
    )


Case = tuple[Callable[[], nn.Module], bool]
"""(makes the model, whether its input is [T, B, ...])."""

ZOO: dict[str, Case] = {
    **{f"sequential-{form}": (partial(Sequential, form), True) for form in ("max", "spikes", "last")},
    **{f"mnist-{form}": (partial(Mnist, form), False) for form in ("all", "max", "slices")},
    "lifted-cells": (lifted_cells, True),
    "lifted-layers": (lifted_layers, True),
}


def make(name: str) -> tuple[nn.Module, Tensor]:
    """Model, and an example input with two samples."""
    torch.manual_seed(0)
    return ZOO[name][0](), example(name, 2)


def example(name: str, batch: int, num_steps: int = NUM_STEPS) -> Tensor:
    """Random input of the model."""
    size = (1, 8, 8)
    return torch.rand(num_steps, batch, *size) * 9 if ZOO[name][1] else torch.rand(batch, *size) * 4
