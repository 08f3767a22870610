"""What a training will cost, from a few steps of small batches on this machine, on a copy of the model.

memory(B) = memory(1) + (B - 1) · (memory(b) - memory(1)) / (b - 1)         exact: activations are linear in B
time(B)   = time(1) + (B - 1) · (time(b) - time(1)) / (b - 1)               about
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from spikenm_compile.learning import tell_loss
from spikenm_compile.training.evaluation import reset_neurons
from spikenm_compile.training.memory import MEMORY
from spikenm_compile.training.networks.task import Task
from spikenm_compile.training.peak_memory import peak_of
from spikenm_compile.training.settings import Settings
from spikenm_compile.training.trainer import make_optimizer

QUICK_SECONDS = 0.3
"""A step of one sample that takes longer is compared with one of 2 samples, else with one of 8."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Cost of a training."""

    parameter_bytes: int
    """Weights and mask logits; gradients take as much again."""
    buffer_bytes: int
    """Batch norm, credit of the masks, ..."""
    optimizer_bytes: int
    working_bytes: int
    """Activations, gradients and masked weights, at their peak."""
    step_seconds: float
    """Of one optimiser step on this machine."""

    @property
    def memory_bytes(self) -> int:
        """Everything together."""
        return self.parameter_bytes + self.buffer_bytes + self.optimizer_bytes + self.working_bytes


def estimate_training(model: nn.Module, task: Task, settings: Settings) -> Estimate:
    """Measure a copy of `model` (with its masks) and scale to the batch of `settings`."""
    copied = copy.deepcopy(model).train()
    optimizer = make_optimizer(copied, settings)
    with torch.random.fork_rng([]), MEMORY[settings.memory](copied):
        first = _Probe(copied, optimizer, task, settings, 1).measured()
        samples = 2 if first.seconds > QUICK_SECONDS else 8
        second = _Probe(copied, optimizer, task, settings, samples).measured()
    share, slope = settings.batch_size // settings.accumulate, 1.0 / (samples - 1)
    per_sample = max(0.0, (second.seconds - first.seconds) * slope)
    return Estimate(
        parameter_bytes=_bytes(list(copied.parameters())),
        buffer_bytes=_bytes(list(copied.buffers())),
        optimizer_bytes=_bytes([t for s in optimizer.state.values() for t in s.values() if isinstance(t, Tensor)]),
        working_bytes=round(first.peak + (share - 1) * (second.peak - first.peak) * slope),
        step_seconds=first.seconds + (settings.batch_size - 1) * per_sample,
    )


@dataclass(frozen=True, slots=True)
class _Measured:
    seconds: float
    peak: int


@dataclass(frozen=True)
class _Probe:
    """Steps of one small batch."""

    model: nn.Module
    optimizer: Optimizer
    task: Task
    settings: Settings
    samples: int

    def measured(self) -> _Measured:
        """Seconds of a step, the shorter of two behind a first one, and peak bytes of a backward pass."""
        _first, *seconds = (self._step() for _ in range(3))
        peak = peak_of(self._backward)
        self.optimizer.zero_grad()
        return _Measured(min(seconds), peak)

    def _step(self) -> float:
        started = time.perf_counter()
        self._backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return time.perf_counter() - started

    def _backward(self) -> None:
        reset_neurons(self.model)
        x, labels = self.task.example(self.samples), torch.zeros(self.samples, dtype=torch.int64)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.settings.precision == "bfloat16"):
            loss = F.cross_entropy(self.model(x), labels)
        tell_loss(self.model, loss)
        loss.backward()  # type: ignore[no-untyped-call]
        reset_neurons(self.model)


def _bytes(tensors: list[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)
