"""snnTorch models in the forms of its documentation: what capture and lift must read."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import snntorch as snn
import torch
import torch.nn.functional as F
from snntorch import surrogate, utils
from torch import Tensor, nn

NUM_STEPS = 4


class TutorialMlp(nn.Module):
    """Tutorial 5: states by hand, one image at every step, spikes and potentials returned."""

    def __init__(self, *, output: bool = False) -> None:
        super().__init__()
        self.fc1 = nn.Linear(16, 32)
        self.lif1 = snn.Leaky(beta=0.9, threshold=0.4, output=output)
        self.fc2 = nn.Linear(32, 8)
        self.lif2 = snn.Leaky(beta=0.8, threshold=0.2, output=output)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mem1 = self.lif1.init_leaky()
        mem2 = self.lif2.init_leaky()
        spk2_rec = []
        mem2_rec = []
        for _ in range(NUM_STEPS):
            cur1 = self.fc1(x)
            spk1, mem1 = self.lif1(cur1, mem1)
            cur2 = self.fc2(spk1)
            spk2, mem2 = self.lif2(cur2, mem2)
            spk2_rec.append(spk2)
            mem2_rec.append(mem2)
        return torch.stack(spk2_rec, dim=0), torch.stack(mem2_rec, dim=0)


class Stepwise(nn.Module):
    """`for t in range(x.size(0))` with a state of several parts; how the first state is written varies."""

    def __init__(self, first: str = "reset_mem") -> None:
        super().__init__()
        self.first = first
        self.fc1 = nn.Linear(16, 32)
        self.syn1 = snn.Synaptic(alpha=0.7, beta=0.8, threshold=0.5, reset_mechanism="zero", reset_delay=False)
        self.fc2 = nn.Linear(32, 8)
        self.alpha2 = snn.Alpha(alpha=0.9, beta=0.7, threshold=0.1, init_hidden=first == "hidden")
        self.rlif3 = snn.RLeaky(beta=0.7, V=0.3, all_to_all=False, threshold=0.3)

    def forward(self, x: Tensor) -> Tensor:
        spikes = []
        syn, mem = self._first(x)
        exc, inh, mem2 = self.alpha2.init_alpha()
        spk3, mem3 = self.rlif3.init_rleaky()
        for t in range(x.size(0)):
            spk, syn, mem = self.syn1(self.fc1(x[t]), syn, mem)
            if self.first == "hidden":
                spk = self.alpha2(self.fc2(spk))
            else:
                spk, exc, inh, mem2 = self.alpha2(self.fc2(spk), exc, syn_inh=inh, mem=mem2)
            spk3, mem3 = self.rlif3(spk, spk3, mem3)
            spikes.append(spk3)
        return torch.stack(spikes)

    def _first(self, x: Tensor) -> tuple[Any, Any]:
        if self.first == "zeros":
            return torch.zeros(x.size(1), 32), torch.zeros(x.size(1), 32)
        if self.first == "zeros_like":
            zeros = torch.zeros_like(self.fc1(x[0]))
            return zeros, zeros
        state: tuple[Any, Any] = self.syn1.reset_mem() if self.first == "reset_mem" else self.syn1.init_synaptic()
        return state


class HiddenCnn(nn.Module):
    """Tutorial 6: states inside the neurons, reset at the start of forward."""

    def __init__(self, readout: str = "spikes") -> None:
        super().__init__()
        self.readout = readout
        grad = surrogate.fast_sigmoid(slope=25)
        options: dict[str, Any] = {"spike_grad": grad, "init_hidden": True}
        self.net = nn.Sequential(
            nn.Conv2d(2, 8, 3, padding=1),
            nn.MaxPool2d(2),
            snn.Leaky(beta=torch.rand(8, 1, 1), learn_beta=True, threshold=0.2, **options),
            nn.Conv2d(8, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            snn.Leaky(beta=0.5, threshold=0.3, reset_mechanism="zero", **options),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(64, 10),
            snn.Leaky(beta=torch.rand(10), threshold=torch.rand(10) * 0.2 + 0.1, output=True, **options),
        )

    def forward(self, x: Tensor) -> Any:
        utils.reset(self.net)
        spk_rec, mem_rec = [], []
        for _ in range(NUM_STEPS):
            spk, mem = self.net(x)
            spk_rec.append(spk)
            mem_rec.append(mem)
        spikes, potentials = torch.stack(spk_rec), torch.stack(mem_rec)
        readouts: dict[str, Callable[[], Any]] = {
            "spikes": lambda: spikes,
            "both": lambda: (spikes, potentials),
            "count": lambda: spikes.sum(0),
            "membrane": lambda: potentials,
            "membrane-mean": lambda: potentials.mean(0),
            "membrane-max": lambda: potentials.max(0)[0],
            "membrane-last": lambda: mem_rec[-1],
        }
        return readouts[self.readout]()


class FunctionalCnn(nn.Module):
    """Tutorial 6, written out: functional pooling of currents, view, membrane readout of a neuron without reset."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 8, 3, padding=1)
        self.lif1 = snn.Leaky(beta=0.6, threshold=0.3, reset_delay=False)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1)
        self.lif2 = snn.Lapicque(beta=0.6, threshold=0.2)
        self.fc = nn.Linear(32, 10)
        self.lif3 = snn.Leaky(beta=0.9, reset_mechanism="none")

    def forward(self, x: Tensor) -> Tensor:
        mem1, mem2, mem3 = self.lif1.reset_mem(), self.lif2.init_lapicque(), self.lif3.reset_mem()
        mem3_rec = []
        batch = x.shape[1]
        for t in range(x.shape[0]):
            spk1, mem1 = self.lif1(F.max_pool2d(self.conv1(x[t]), 2), mem1)
            spk2, mem2 = self.lif2(F.max_pool2d(self.conv2(spk1), 2), mem2)
            _, mem3 = self.lif3(self.fc(spk2.view(batch, -1)), mem=mem3)
            mem3_rec.append(mem3)
        return torch.stack(mem3_rec).mean(dim=0)


Case = tuple[Callable[[], nn.Module], tuple[int, ...], bool]
"""(makes the model, shape of a sample, whether its input is [T, B, ...])."""

ZOO: dict[str, Case] = {
    "tutorial-mlp": (TutorialMlp, (16,), False),
    "tutorial-mlp-output": (partial(TutorialMlp, output=True), (16,), False),
    **{
        f"stepwise-{first}": (partial(Stepwise, first), (16,), True)
        for first in ("reset_mem", "init_synaptic", "zeros", "zeros_like", "hidden")
    },
    **{
        f"hidden-cnn-{readout}": (partial(HiddenCnn, readout), (2, 8, 8), False)
        for readout in ("spikes", "both", "count", "membrane", "membrane-mean", "membrane-max", "membrane-last")
    },
    "functional-cnn": (FunctionalCnn, (2, 8, 8), True),
}


def make(name: str) -> tuple[nn.Module, Tensor]:
    """Model in train mode with settled batch norms, and an example input with two samples."""
    torch.manual_seed(0)
    model = ZOO[name][0]()
    x = example(name, batch=2)
    with torch.no_grad():
        for _ in range(5):
            model(x)
    return model, x


def example(name: str, batch: int, num_steps: int = NUM_STEPS) -> Tensor:
    """Random input of the model."""
    _, shape, per_step = ZOO[name]
    return torch.rand(num_steps, batch, *shape) * 3 if per_step else torch.rand(batch, *shape) * 3
