"""sinabs models in the forms of its documentation: what capture and lift must read."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import sinabs
import sinabs.activation as sina
import sinabs.layers as sl
import torch
from sinabs.from_torch import from_model
from torch import Tensor, nn

BATCH, NUM_STEPS = 2, 5
STRONG = torch.tensor(0.3)


def squeezed(**sizes: Any) -> nn.Sequential:
    """The tutorials' network: layers on [B·T, ...], as many spikes as fit."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, bias=False),
        sl.IAFSqueeze(spike_threshold=STRONG, min_v_mem=-1.0, **sizes),
        nn.AvgPool2d(2),
        nn.Conv2d(8, 8, 3),
        sl.LIFSqueeze(tau_mem=5.0, spike_threshold=STRONG, spike_fn=sina.SingleSpike, **sizes),
        nn.Dropout2d(0.3),
        nn.Flatten(),
        nn.Linear(32, 10),
        sl.IAFSqueeze(spike_threshold=STRONG, reset_fn=sina.MembraneReset(), **sizes),
    )


class Unsqueezed(nn.Module):
    """[B, T, ...] in, time moved into the batch and out again by the model; resets itself."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form
        self.net = squeezed(num_timesteps=NUM_STEPS)

    def forward(self, x: Tensor) -> Tensor:
        sinabs.reset_states(self)
        if self.form == "repeat":
            x = x.unsqueeze(1).repeat(1, NUM_STEPS, 1, 1, 1)
        if self.form == "transpose":
            x = x.transpose(0, 1)
        batch, num_steps = x.shape[:2]
        out = self.net(x.flatten(0, 1)).unflatten(0, (batch, num_steps))
        if self.form == "last":
            return out[:, -1]  # type: ignore[no-any-return]
        return out.sum(1)  # type: ignore[no-any-return]


def dense(readout: nn.Module | None = None) -> nn.Sequential:
    """Linear layers on [B, T, C]."""
    return nn.Sequential(
        nn.Flatten(2),
        nn.Linear(64, 32),
        sl.LIF(tau_mem=torch.linspace(2.0, 9.0, 32), tau_syn=3.0, norm_input=False),
        nn.Linear(32, 32, bias=False),
        sl.ALIF(tau_mem=5.0, tau_adapt=9.0, adapt_scale=0.2, spike_threshold=STRONG / 10),
        nn.Linear(32, 10),
        readout or sl.ExpLeak(tau_mem=5.0, min_v_mem=-0.1),
    )


def reshaped() -> nn.Sequential:
    """FlattenTime, UnflattenTime and Repeat between layers on [B, T, ...]."""
    return nn.Sequential(
        sl.FlattenTime(),
        nn.Conv2d(1, 8, 3, padding=1),
        sl.SumPool2d(2),
        sl.UnflattenTime(BATCH),
        sl.IAF(spike_threshold=STRONG),
        sl.Repeat(nn.Conv2d(8, 8, 3)),
        sl.LIF(tau_mem=3.0, spike_fn=sina.MaxSpike(3)),
    )


def converted() -> nn.Module:
    """An artificial network with ReLUs, turned into a spiking one."""
    ann = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(72, 16), nn.ReLU(), nn.Linear(16, 10)
    )
    model: nn.Module = from_model(ann, input_shape=(1, 8, 8), batch_size=BATCH, add_spiking_output=True)
    return model


Case = tuple[Callable[[], nn.Module], str, bool]
"""(makes the model, how its input is laid out, whether the batch is fixed)."""

ZOO: dict[str, Case] = {
    "squeezed-batch": (partial(squeezed, batch_size=BATCH), "flat", True),
    "squeezed-steps": (partial(squeezed, num_timesteps=NUM_STEPS), "flat", False),
    "unsqueezed-sum": (partial(Unsqueezed, "sum"), "batch", False),
    "unsqueezed-last": (partial(Unsqueezed, "last"), "batch", False),
    "unsqueezed-transpose": (partial(Unsqueezed, "transpose"), "time", False),
    "unsqueezed-repeat": (partial(Unsqueezed, "repeat"), "static", False),
    "dense": (dense, "batch", False),
    "reshaped": (reshaped, "batch", True),
    "converted": (converted, "flat", True),
}


def make(name: str) -> tuple[nn.Module, Tensor]:
    """Model, reset, and an example input with two samples."""
    torch.manual_seed(0)
    model = ZOO[name][0]()
    sinabs.reset_states(model)
    return model, laid_out(name, steps_of(name, BATCH))


def steps_of(name: str, batch: int, num_steps: int = NUM_STEPS) -> Tensor:
    """Random input: [T, B, ...], or [B, ...] where it is the same at each step."""
    leading = (batch,) if ZOO[name][1] == "static" else (num_steps, batch)
    return torch.rand(*leading, 1, 8, 8) * 3


def laid_out(name: str, x: Tensor) -> Tensor:
    """The input as the model takes it."""
    if ZOO[name][1] in ("time", "static"):
        return x
    return x.transpose(0, 1).flatten(0, 1) if ZOO[name][1] == "flat" else x.transpose(0, 1).contiguous()


def in_steps(name: str, out: Tensor, batch: int) -> Tensor:
    """The model's output as a step graph gives it."""
    if ZOO[name][1] == "flat":
        return torch.unflatten(out, 0, (batch, -1)).transpose(0, 1)
    return out.transpose(0, 1) if out.dim() > 2 else out
