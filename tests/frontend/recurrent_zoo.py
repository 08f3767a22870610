"""Small networks with recurrent layers of every library, and inputs for them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import norse.torch as norse
import sinabs.layers as sl
import snntorch as snn
import torch
from sinabs.activation import MaxSpike, SingleSpike
from spikingjelly.activation_based import layer, neuron
from torch import Tensor, nn

T, B, IN, HIDDEN = 40, 4, 20, 64


class ByHand(nn.Module):
    """snnTorch: a step at a time, the states passed by hand."""

    def __init__(self, front: nn.Module, cell: Any) -> None:
        super().__init__()
        self.front, self.cell = front, cell

    def forward(self, x: Tensor) -> Tensor:
        states, out = self.cell.reset_mem(), []
        for t in range(x.shape[0]):
            spikes, *states = self.cell(self.front(x[t]), *states)
            states = [spikes, *states]
            out.append(spikes)
        return torch.stack(out)


class Hidden(nn.Module):
    """snnTorch with init_hidden, SpikingJelly in single-step mode: a step at a time, the states inside."""

    def __init__(self, front: nn.Module, cell: Any) -> None:
        super().__init__()
        self.front, self.cell = front, cell

    def forward(self, x: Tensor) -> Tensor:
        self.cell.reset_mem() if hasattr(self.cell, "reset_mem") else self.cell.reset()
        return torch.stack([self.cell(self.front(x[t])) for t in range(x.shape[0])])


class Cells(nn.Module):
    """Norse: a step at a time, one state object."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor) -> Tensor:
        state, out = None, []
        for t in range(x.shape[0]):
            spikes, state = self.cell(x[t], state)
            out.append(spikes)
        return torch.stack(out)


class Sequences(nn.Module):
    """Norse layers, which also return a state."""

    def __init__(self, recurrent: nn.Module) -> None:
        super().__init__()
        self.recurrent = recurrent

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.recurrent(x)[0]
        return out


def scaled(module: nn.Module, factor: float) -> nn.Module:
    """The module with larger weights, so that its neurons spike."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(factor)
    return module


def fc() -> nn.Module:
    return scaled(nn.Linear(IN, HIDDEN), 4.0)


def conv() -> nn.Module:
    return scaled(nn.Conv2d(3, 4, 3, padding=1), 4.0)


def back() -> nn.Module:
    """A layer that feeds 64 neurons back, with a bias that acts from the first or from the second step on."""
    return nn.Linear(HIDDEN, HIDDEN)


def rleaky(**options: Any) -> nn.Module:
    return ByHand(fc(), snn.RLeaky(beta=0.9, linear_features=HIDDEN, **options))


def rsynaptic(**options: Any) -> nn.Module:
    return ByHand(fc(), snn.RSynaptic(alpha=0.7, beta=0.8, linear_features=HIDDEN, **options))


def norse_model(kind: str, **options: Any) -> nn.Module:
    recurrent: nn.Module = getattr(norse, kind)(IN, HIDDEN, **options)
    return Cells(recurrent) if kind.endswith("Cell") else Sequences(recurrent)


def container(kind: str, step_mode: str) -> nn.Module:
    """A container of SpikingJelly behind a layer."""
    lif = neuron.LIFNode(v_threshold=0.5)
    made: nn.Module
    if kind == "linear":
        made = layer.LinearRecurrentContainer(lif, HIDDEN, HIDDEN, step_mode=step_mode)
    elif kind == "sequential":
        inside = nn.Sequential(nn.Linear(HIDDEN, 32), nn.Dropout(0.1), lif)
        made = layer.LinearRecurrentContainer(inside, HIDDEN, 32, bias=False, step_mode=step_mode)
    else:
        functions: dict[str, Callable[..., Tensor]] = {
            "add": lambda y, x: x + y,
            "iand": lambda y, x: (1 - y) * x,
            "torch": torch.add,
            "scaled": lambda y, x: x.sub(y / 3) - 0.1,
        }
        made = layer.ElementWiseRecurrentContainer(lif, functions[kind], step_mode=step_mode)
    return nn.Sequential(fc(), made) if step_mode == "m" else Hidden(fc(), made)


RESETS = ("subtract", "zero", "none")
ON_VECTORS: dict[str, Callable[[], nn.Module]] = {
    **{f"rleaky-{reset}": partial(rleaky, reset_mechanism=reset) for reset in RESETS},
    "rleaky-no-delay": partial(rleaky, reset_delay=False),
    "rleaky-hidden": lambda: Hidden(fc(), snn.RLeaky(beta=0.9, linear_features=HIDDEN, init_hidden=True)),
    **{f"rsynaptic-{reset}": partial(rsynaptic, reset_mechanism=reset) for reset in RESETS},
    **{
        f"{kind}-{'autapses' if autapses else 'plain'}": partial(norse_model, kind, autapses=autapses)
        for kind in ("LIFRecurrentCell", "LSNNRecurrentCell", "LIFRecurrent", "LSNNRecurrent")
        for autapses in (False, True)
    },
    **{kind: partial(norse_model, kind) for kind in ("LIFRefracRecurrent", "LIFExRecurrent", "LIFAdExRecurrent")},
    "LIFRefracRecurrentCell": partial(norse_model, "LIFRefracRecurrentCell"),
    "LSNNRecurrent-adjoint": partial(norse_model, "LSNNRecurrent", adjoint=True),
    **{
        f"{kind}-{mode}": partial(container, kind, mode)
        for kind in ("linear", "sequential", "add", "iand", "torch", "scaled")
        for mode in ("s", "m")
    },
}
"""On [T, B, 20]."""

BATCH_FIRST: dict[str, Callable[[], nn.Module]] = {
    "lif": lambda: nn.Sequential(fc(), sl.LIFRecurrent(5.0, back(), spike_fn=SingleSpike)),
    "lif-synapse": lambda: nn.Sequential(
        fc(), sl.LIFRecurrent(5.0, back(), tau_syn=3.0, norm_input=False, min_v_mem=-0.5, spike_fn=SingleSpike)
    ),
    "lif-counts": lambda: nn.Sequential(fc(), sl.LIFRecurrent(5.0, back(), spike_fn=MaxSpike(3))),
    "alif": lambda: nn.Sequential(fc(), sl.ALIFRecurrent(5.0, 8.0, back())),
    "iaf": lambda: nn.Sequential(fc(), sl.IAFRecurrent(nn.Sequential(nn.Dropout(0.1), back()), spike_fn=SingleSpike)),
}
"""sinabs, on [B, T, 20]."""

ON_MAPS: dict[str, Callable[[], nn.Module]] = {
    "rleaky": lambda: ByHand(conv(), snn.RLeaky(beta=0.9, conv2d_channels=4, kernel_size=3)),
    "rsynaptic": lambda: ByHand(conv(), snn.RSynaptic(alpha=0.6, beta=0.8, conv2d_channels=4, kernel_size=3)),
}
"""On [T, B, 3, 6, 6]."""
