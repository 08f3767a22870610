"""The training of the demo: images in memory, settings that suit small networks."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from spikenm_compile.training.digits import ImageData
from spikenm_compile.training.evaluation import accuracy, reset_neurons
from spikenm_compile.training.settings import Settings
from spikenm_compile.training.step import Progress
from spikenm_compile.training.trainer import run_training

__all__ = ["BATCH_SIZE", "EPOCHS", "Progress", "accuracy", "reset_neurons", "total_steps", "train"]

BATCH_SIZE = Settings().batch_size
EPOCHS = Settings().epochs


def total_steps(num_images: int, epochs: int = EPOCHS) -> int:
    """Optimiser steps that `train` takes: what `transform(total_steps=...)` wants to know."""
    return epochs * (num_images // BATCH_SIZE)


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
    settings = Settings(epochs=epochs, lr=lr, seed=seed, evaluate_every=0)
    run_training(model, data, settings, observers=() if progress is None else (progress,))
