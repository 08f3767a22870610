"""One optimiser step: a pure function of model and optimiser before it, the settings and the step's number.

The order of the samples comes from (seed, epoch), what the model draws from (seed, step, part, process), the learning
rate from the step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from spikenm_compile.learning import tell_loss
from spikenm_compile.training.batches import Samples, number_of, order_of, read_batch
from spikenm_compile.training.distributed import World, summing
from spikenm_compile.training.evaluation import reset_neurons
from spikenm_compile.training.learning_rate import lr_factor, set_lr
from spikenm_compile.training.settings import Settings


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a training stands; handed to observers after each step."""

    step: int
    """Optimiser steps done."""
    total_steps: int
    loss: float
    """Training loss of this step, over all processes."""
    epoch: int = 0
    """Epoch of this step, from 0."""
    lr: float = 0.0
    """Learning rate of this step."""
    accuracy: float | None = None
    """Share of the test samples recognised after this step, where that was measured."""


Loss = Callable[[Tensor, Tensor], Tensor]
"""(outputs [B, ...], labels [B, ...]) -> scalar, the mean over the batch."""


class LossTerm(Protocol):
    """Something that is added to the loss of every forward pass, such as a target for firing rates."""

    step: int
    """Penalties asked for so far; a training that goes on from a checkpoint sets it."""

    def penalty(self) -> Tensor:
        """Scalar, for the forward pass that was just done."""
        ...


@dataclass(frozen=True)
class Job:
    """Everything a step needs."""

    model: nn.Module
    runner: nn.Module
    """The model, wrapped for several processes."""
    forward: Callable[[Tensor], Tensor]
    """The runner, compiled where that is wanted."""
    optimizer: Optimizer
    settings: Settings
    world: World
    samples: Samples
    total_steps: int
    loss: Loss
    terms: Sequence[LossTerm]

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    @property
    def steps_per_epoch(self) -> int:
        """Batches of one epoch."""
        return self.total_steps // self.settings.epochs

    def take(self, step: int) -> Progress:
        """Do one optimiser step; `step` is 0 for the first one."""
        epoch, position = divmod(step, self.steps_per_epoch)
        lr = self.settings.lr * lr_factor(self.settings, step, self.total_steps)
        set_lr(self.optimizer, lr)
        self.optimizer.zero_grad()
        parts = self._batch(epoch, position).chunk(self.settings.accumulate)
        value = self.world.mean(sum(self._backward(part, step, number) for number, part in enumerate(parts)))
        self.optimizer.step()
        return Progress(step + 1, self.total_steps, value, epoch, lr)

    def _batch(self, epoch: int, position: int) -> Tensor:
        """Indices of the samples of one batch."""
        size = self.settings.batch_size
        return order_of(len(self.samples), self.settings.seed, epoch)[position * size : (position + 1) * size]

    def _backward(self, part: Tensor, step: int, number: int) -> float:
        """Add the gradient of one part of a batch; returns its share of the loss in this process."""
        _seed(number_of(self.settings.seed, "step", step, number, self.world.rank), self.device)
        images, labels = read_batch(self.samples, self.world.share_of(part))
        with summing(self.runner, is_last=number == self.settings.accumulate - 1):
            reset_neurons(self.model)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.precision == "bfloat16"):
                value = self.loss(self.forward(images.to(self.device)), labels.to(self.device))
                value = torch.stack([value, *(term.penalty() for term in self.terms)]).sum() / self.settings.accumulate
            value.backward()  # type: ignore[no-untyped-call]
        tell_loss(self.model, value * self.settings.accumulate)
        return float(value.detach())


def _seed(seed: int, device: torch.device) -> None:
    """Seed what models draw from on `device`; not torch.manual_seed, which is slow where CUDA is not in use."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
