"""Spiking networks as repositories of papers write them: the neuron is code in forward, not a module of a library."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ATan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (x > 0).float()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        gradient: Tensor = grads[0] / (1 + (torch.pi * x).square())
        return gradient


class Rectangle(torch.autograd.Function):
    """With its threshold inside, as in many repositories."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, thresh: float = 0.3) -> Tensor:
        ctx.save_for_backward(x)
        ctx.thresh = thresh
        return x.ge(thresh).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        return grads[0] * ((x - ctx.thresh).abs() < 0.5).float(), None


def fire(x: Tensor) -> Tensor:
    spikes: Tensor = ATan.apply(x)  # type: ignore[no-untyped-call]
    return spikes


class MembraneList(nn.Module):
    """A list of potentials; layers inside of the loop over time; soft or hard reset; membrane given as zero."""

    def __init__(self, *, is_soft: bool = False, is_static: bool = False) -> None:
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(2, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)])
        self.pool = nn.MaxPool2d(2)
        self.fc = nn.Linear(32, 10)
        self.is_soft, self.is_static = is_soft, is_static

    def forward(self, x: Tensor) -> Tensor:
        mem: list[Any] = [0.0] * 3
        out: Any = 0
        for t in range(4 if self.is_static else x.shape[0]):
            z = x if self.is_static else x[t]
            for i, conv in enumerate(self.convs):
                mem[i] = mem[i] * 0.25 + conv(z)
                z = fire(mem[i] - 0.3)
                mem[i] = mem[i] - z * 0.3 if self.is_soft else mem[i] * (1 - z)
                z = self.pool(z)
            mem[2] = mem[2] * 0.25 + self.fc(z.flatten(1))
            z = fire(mem[2] - 0.1)
            mem[2] = mem[2] - z * 0.1
            out = out + z
        rates: Tensor = out / (4 if self.is_static else x.shape[0])
        return rates


class Stbp(nn.Module):
    """mem and spike carried; the reset stands in front of the next charge (Wu et al.)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(2, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.fc1, self.fc2 = nn.Linear(32, 16), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        batch = x.size(1)
        c1_mem = c1_spike = torch.zeros(batch, 8, 8, 8, device=x.device)
        c2_mem = c2_spike = torch.zeros(batch, 8, 4, 4, device=x.device)
        h1_mem = h1_spike = h1_sum = torch.zeros(batch, 16, device=x.device)
        h2_mem = h2_spike = h2_sum = torch.zeros(batch, 10, device=x.device)
        for step in range(x.size(0)):
            c1_mem, c1_spike = self.update(self.conv1, x[step], c1_mem, c1_spike)
            y = F.avg_pool2d(c1_spike, 2)
            c2_mem, c2_spike = self.update(self.conv2, y, c2_mem, c2_spike)
            y = F.max_pool2d(c2_spike, 2).view(batch, -1)
            h1_mem, h1_spike = self.update(self.fc1, y, h1_mem, h1_spike)
            h1_sum = h1_sum + h1_spike
            h2_mem, h2_spike = self.update(self.fc2, h1_spike, h2_mem, h2_spike)
            h2_sum += h2_spike
        return h2_sum / x.size(0)

    def update(self, layer: nn.Module, x: Tensor, mem: Tensor, spike: Tensor) -> tuple[Tensor, Tensor]:
        mem = mem * 0.5 * (1.0 - spike) + layer(x)
        spike = Rectangle.apply(mem)  # type: ignore[no-untyped-call]
        return mem, spike


class Spike(nn.Module):
    """A neuron module that loops over T inside, [B, T, ...]; `out[:, t] = spike`."""

    def __init__(self, thresh: float = 0.5, tau: float = 0.25) -> None:
        super().__init__()
        self.thresh, self.tau = thresh, tau

    def forward(self, x: Tensor) -> Tensor:
        mem: Any = 0
        spikes = []
        for t in range(x.shape[1]):
            mem = mem * self.tau + x[:, t, ...]
            spike = fire(mem - self.thresh)
            mem = (1 - spike) * mem
            spikes.append(spike)
        return torch.stack(spikes, dim=1)


class BatchFirst(nn.Module):
    """[B, T, ...]; layers see (B·T)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1, self.act1 = nn.Conv2d(2, 8, 3, padding=1), nn.BatchNorm2d(8), Spike()
        self.conv2, self.bn2, self.act2 = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), Spike()
        self.fc = nn.Linear(8 * 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        batch, steps = x.shape[:2]
        y = self.bn1(self.conv1(x.flatten(0, 1)))
        y = self.act1(y.view(batch, steps, *y.shape[1:]))
        y = F.avg_pool2d(y.flatten(0, 1), 2)
        y = self.bn2(self.conv2(y))
        y = self.act2(y.view(batch, steps, *y.shape[1:]))
        rates: Tensor = self.fc(y.mean(1).flatten(1))
        return rates


class TimeFlat(nn.Module):
    """A neuron module on (T·B), that takes T as an argument."""

    def __init__(self, steps: int, how: str) -> None:
        super().__init__()
        self.steps, self.how = steps, how
        self.tau = nn.Parameter(torch.tensor(0.3))
        self.thresh = nn.Parameter(torch.linspace(0.3, 0.6, 8).view(1, 8, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = x.view(self.steps, x.shape[0] // self.steps, *x.shape[1:])
        mem = torch.zeros_like(x[0])
        out = torch.zeros_like(x)
        spikes = []
        for t in range(self.steps):
            mem = mem * torch.sigmoid(self.tau) + x[t]
            spike = fire(mem - self.thresh)
            mem = torch.where(spike.detach() > 0, torch.zeros_like(mem), mem)
            out[t] = spike
            spikes.append(spike.unsqueeze(0) if self.how == "cat-new" else spike)
        if self.how == "assign":
            return out.flatten(0, 1)
        if self.how == "cat-new":
            return torch.cat(spikes, dim=0).flatten(0, 1)
        return torch.cat(spikes, dim=0)


class Flattened(nn.Module):
    def __init__(self, how: str = "cat") -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(2, 8, 3, padding=1),
            TimeFlat(4, how),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 8, 3, padding=1),
            TimeFlat(4, how),
            nn.Flatten(),
            nn.Linear(8 * 16, 10),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x.flatten(0, 1))
        return y.view(4, -1, 10).mean(0)


class TwoStates(nn.Module):
    """Synaptic current and membrane in one state tensor; a leaky readout whose potential at each step is returned."""

    def __init__(self, readout: str = "all") -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(12, 24), nn.Linear(24, 24), nn.Linear(24, 5)
        self.readout = readout
        self.beta = nn.Parameter(torch.full((24,), 0.8))

    def forward(self, x: Tensor) -> Tensor:
        state1 = torch.zeros(2, x.shape[1], 24)
        state2 = torch.zeros(2, x.shape[1], 24)
        mem3 = torch.zeros(x.shape[1], 5)
        potentials = []
        for x_t in x:
            state1, z = self.cell(self.fc1(x_t), state1)
            state2, z = self.cell(self.fc2(z), state2)
            mem3 = mem3 * 0.9 + self.fc3(z)
            potentials.append(mem3)
        if self.readout == "last":
            return mem3
        if self.readout == "max":
            return torch.stack(potentials).max(0).values
        return torch.stack(potentials)

    def cell(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        syn, v = state
        syn = 0.7 * syn + x
        v = self.beta * v + syn
        z = fire(v - 1.0)
        return torch.stack([syn, v - z.detach()]), z


class Adaptive(nn.Module):
    """Threshold that rises with each spike, and a refractory time; T is x.shape[0]."""

    def __init__(self, how: str = "heaviside") -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(12, 24), nn.Linear(24, 5)
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        v = th = rest = torch.zeros(x.shape[1], 24)
        count = torch.zeros(x.shape[1], 5)
        v2 = torch.zeros(x.shape[1], 5)
        for t in range(len(x)):
            v = torch.clamp(0.9 * v + self.fc1(x[t]), min=-1.0, max=4.0)
            z = self.spikes(v - (0.8 + 0.2 * th)) * (rest <= 0).float()
            rest = torch.where(z > 0, 2.0, torch.relu(rest - 1.0))
            th = 0.95 * th + z
            v = v.masked_fill(z > 0, -0.1)
            v2 = v2 + self.fc2(z)
            z2 = (v2 >= 0.5).float()
            v2 = v2 - 0.5 * z2
            count += z2
        return count

    def spikes(self, u: Tensor) -> Tensor:
        if self.how == "heaviside":
            return torch.heaviside(u, torch.zeros(1))
        if self.how == "sign":
            return torch.sign(u).clamp(min=0)
        if self.how == "straight-through":
            hard, soft = (u > 0).float(), torch.sigmoid(4 * u)
            return (hard - soft).detach() + soft
        return (u > 0).float()


class FirstStepApart(nn.Module):
    """The first step has code of its own; the reset is computed at the beginning of a step."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(12, 24), nn.Linear(24, 5)
        self.decay = 0.6

    def forward(self, x: Tensor) -> Tensor:
        mem1: Any = None
        mem2: Any = None
        total = []
        for t in range(x.shape[0]):
            current = self.fc1(x[t])
            mem1 = current if mem1 is None else mem1 * self.decay * (1 - (mem1 > 1.0).float()) + current
            z = (mem1 > 1.0).float()
            current = self.fc2(z)
            mem2 = current if t == 0 else 0.5 * mem2 + current
            total.append((mem2 > 0.2).float())
            mem2 = mem2 * (1 - total[-1])
        return torch.stack(total).mean(dim=0)


class Residual(nn.Module):
    """Spikes added to spikes; one update function for all layers; `permute` of a [B, T, ...] input."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(2, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv3, self.bn3 = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.fc = nn.Linear(8 * 64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(1, 0, 2, 3, 4)
        v1 = v2 = v3 = 0.0
        out = torch.zeros(x.size(1), 10)
        for t in range(x.size(0)):
            s1, v1 = lif(self.bn1(self.conv1(x[t])), v1)
            s2, v2 = lif(self.bn2(self.conv2(s1)), v2)
            s3, v3 = lif(self.bn3(self.conv3(s1 + s2)), v3)
            out += self.fc((s1 + s3).flatten(1))
        return out


class TwoInputs(nn.Module):
    """Currents of two layers that enter one after the other: (beta * mem + a) + b is not beta * mem + (a + b)."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.skip = nn.Linear(12, 24), nn.Linear(24, 24), nn.Linear(12, 24)

    def forward(self, x: Tensor) -> Tensor:
        mem1: Any = 0.0
        mem2: Any = 0.0
        out = torch.zeros(x.shape[1], 24)
        for t in range(x.shape[0]):
            mem1 = 0.7 * mem1 + self.fc1(x[t])
            z = (mem1 >= 0.5).float()
            mem1 = mem1 - 0.5 * z
            mem2 = 0.7 * mem2 + self.fc2(z) + self.skip(x[t])
            z = (mem2 >= 0.5).float()
            mem2 = mem2 - 0.5 * z
            out = out + z
        return out / x.shape[0]


def lif(x: Any, v: Any, tau: float = 2.0, v_threshold: float = 0.5) -> Any:
    v = v + (x - v) / tau
    s = fire(v - v_threshold)
    return s, v * (1.0 - s.detach())


IMAGE = (2, 8, 8)
ZOO: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], str]] = {
    "membrane list, hard reset": (MembraneList, IMAGE, "T"),
    "membrane list, soft reset": (lambda: MembraneList(is_soft=True), IMAGE, "T"),
    "membrane list, static input": (lambda: MembraneList(is_static=True), IMAGE, ""),
    "STBP": (Stbp, IMAGE, "T"),
    "batch first": (BatchFirst, IMAGE, "BT"),
    "time flattened, cat": (Flattened, IMAGE, "T4"),
    "time flattened, assigned": (lambda: Flattened("assign"), IMAGE, "T4"),
    "time flattened, cat of new dimension": (lambda: Flattened("cat-new"), IMAGE, "T4"),
    "two states, stacked": (TwoStates, (12,), "T"),
    "two states, last potential": (lambda: TwoStates("last"), (12,), "T"),
    "two states, largest potential": (lambda: TwoStates("max"), (12,), "T"),
    "adaptive, heaviside": (Adaptive, (12,), "T"),
    "adaptive, sign": (lambda: Adaptive("sign"), (12,), "T"),
    "adaptive, straight-through": (lambda: Adaptive("straight-through"), (12,), "T"),
    "adaptive, comparison": (lambda: Adaptive("comparison"), (12,), "T"),
    "first step apart": (FirstStepApart, (12,), "T"),
    "residual": (Residual, IMAGE, "BT"),
    "two inputs": (TwoInputs, (12,), "T"),
}
"""Name -> (model, shape of one sample at one step, where the input has time: T: first, T4: first and fixed)."""


def example(name: str, *, batch: int = 3, num_steps: int = 4, seed: int = 0) -> Tensor:
    """An input of the model."""
    generator = torch.Generator().manual_seed(seed)
    _, shape, time = ZOO[name]
    leading = {"T": (num_steps, batch), "T4": (4, batch), "BT": (batch, num_steps), "": (batch,)}[time]
    return torch.rand(*leading, *shape, generator=generator) * 2


def make(name: str) -> nn.Module:
    """A model with enough current for spikes, in eval mode."""
    torch.manual_seed(1)
    model = ZOO[name][0]()
    for layer in model.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.kaiming_uniform_(layer.weight)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.running_mean, -0.2, 0.2)  # type: ignore[arg-type]
            nn.init.uniform_(layer.running_var, 0.5, 1.5)  # type: ignore[arg-type]
    return model.eval()
