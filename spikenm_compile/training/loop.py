"""A plain training loop. Masks need nothing from it: their gradients are finished by a hook of the optimiser."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikenm_compile.errors import InputError
from spikenm_compile.learning import param_groups
from spikenm_compile.training.digits import ImageData

BATCH_SIZE = 64
EPOCHS = 12
LABEL_SMOOTHING = 0.05
WEIGHT_DECAY = 1e-4


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a training stands; handed to the progress callback after each step."""

    step: int
    """Optimiser steps done."""
    total_steps: int
    loss: float
    """Training loss of this step."""


def total_steps(num_images: int, epochs: int = EPOCHS) -> int:
    """Optimiser steps that `train` takes: what `transform(total_steps=...)` wants to know."""
    return epochs * (num_images // BATCH_SIZE)


def reset_neurons(model: nn.Module) -> None:
    """Call `reset()` of every module that has one: potentials of the batch before must not leak into the next."""
    for module in model.modules():
        reset = getattr(module, "reset", None)
        if callable(reset):
            reset()


def train(
    model: nn.Module,
    data: ImageData,
    *,
    epochs: int = EPOCHS,
    lr: float = 3e-3,
    seed: int = 0,
    progress: Callable[[Progress], None] | None = None,
) -> None:
    """Train `model` in place: AdamW, cosine learning rate, smoothed labels, batches of 64. The seed decides the order.

    Raises:
        InputError: fewer training images than one batch.
    """
    steps = total_steps(len(data.train_labels), epochs)
    if steps < 1:
        raise InputError(
            f"{len(data.train_labels)} images × {epochs} epochs make no batch; train on {BATCH_SIZE} images or more"
        )
    optimizer = torch.optim.AdamW(param_groups(model, lr, WEIGHT_DECAY), foreach=True)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(seed)
    model.train()
    step = 0
    for _ in range(epochs):
        order = torch.randperm(len(data.train_labels), generator=generator)
        for batch in torch.split(order, BATCH_SIZE)[: steps // epochs]:
            optimizer.zero_grad()
            reset_neurons(model)
            logits = model(data.train_images[batch])
            loss = F.cross_entropy(logits, data.train_labels[batch], label_smoothing=LABEL_SMOOTHING)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            scheduler.step()
            step += 1
            if progress is not None:
                progress(Progress(step, steps, float(loss.detach())))
    reset_neurons(model)


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of `images` [N, ...] whose largest class logit is the label, in evaluation mode; the mode is put back."""
    was_training = model.training
    model.eval()
    correct = 0
    for batch, expected in zip(torch.split(images, 4 * BATCH_SIZE), torch.split(labels, 4 * BATCH_SIZE), strict=True):
        reset_neurons(model)
        correct += int((model(batch).argmax(-1) == expected).sum())
    reset_neurons(model)
    model.train(was_training)
    return correct / len(labels)
