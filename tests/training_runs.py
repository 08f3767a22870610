"""Tiny trainings for the tests of the engine; also a program that a test starts in a process of its own."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from spikenm_compile.learning import MaskOptions, Schedule, attach_mask
from spikenm_compile.learning.attach import attach_dense
from spikenm_compile.learning.options import LearnerName
from spikenm_compile.neurons import LIF
from spikenm_compile.pattern import Pattern
from spikenm_compile.training.batches import Samples
from spikenm_compile.training.settings import Settings
from spikenm_compile.training.trainer import Observer, run_training
from spikenm_compile.weight_types import WeightType

NUM_STEPS = 2


class TinyNet(nn.Module):
    """Two spiking layers with a mask on the second, dropout, and batch norm if wanted: [B, 8] to [B, 4]."""

    def __init__(self, norm: bool = True, dropout: float = 0.1) -> None:
        super().__init__()
        self.first = nn.Linear(8, 16)
        self.norm = nn.BatchNorm1d(16) if norm else nn.Identity()
        self.lif1 = LIF(tau=2.0, decay_input=False)
        self.dropout = nn.Dropout(dropout)
        self.second = nn.Linear(16, 16)
        self.lif2 = LIF(tau=2.0, decay_input=False)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        current = self.norm(self.first(x)).expand(NUM_STEPS, -1, -1)
        spikes = self.lif2(self.second(self.dropout(self.lif1(current))))
        mean: Tensor = self.head(spikes).mean(0)
        return mean


def samples(number: int = 40) -> Samples:
    generator = torch.Generator().manual_seed(3)
    inputs = torch.rand(number, 8, generator=generator) * 2.0
    return TensorDataset(inputs, (inputs[:, ::2].argmax(-1)))


def masked_net(
    settings: Settings,
    *,
    norm: bool = True,
    dropout: float = 0.1,
    noise: float = 0.5,
    learner: LearnerName = "spikenm",
    weight_type: WeightType | None = None,
) -> TinyNet:
    torch.manual_seed(0)
    net = TinyNet(norm, dropout)
    schedule = Schedule(settings.total_steps(len(samples())), noise=noise)
    pattern = Pattern(2, 4, staggered=learner == "staggered")
    options = MaskOptions(schedule, learner=learner, weight_type=weight_type)
    attach_mask(net.second, pattern, options, "second")
    if weight_type is not None:
        attach_dense(net.head, options, "head")
    return net


def tiny_run(
    settings: Settings,
    run_dir: Path | None = None,
    *,
    resume: bool = False,
    observers: tuple[Observer, ...] = (),
    learner: LearnerName = "spikenm",
    weight_type: WeightType | None = None,
) -> TinyNet:
    net = masked_net(settings, learner=learner, weight_type=weight_type)
    run_training(net, samples(), settings, run_dir, observers, resume=resume)
    return net


def same_state(first: nn.Module, second: nn.Module) -> bool:
    """Whether all parameters and buffers are equal bit for bit."""
    a, b = first.state_dict(), second.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
