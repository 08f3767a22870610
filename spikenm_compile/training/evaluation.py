"""How good a model is, and how its neurons forget the batch before."""

from __future__ import annotations

import torch
from torch import Tensor, nn

EVALUATION_BATCH = 256


def reset_neurons(model: nn.Module) -> None:
    """Call `reset()` of every module that has one: potentials of the batch before must not leak into the next."""
    for module in model.modules():
        reset = getattr(module, "reset", None)
        if callable(reset):
            reset()


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of `images` [N, ...] whose largest class logit is the label, in evaluation mode; the mode is put back."""
    was_training = model.training
    model.eval()
    batches = zip(torch.split(images, EVALUATION_BATCH), torch.split(labels, EVALUATION_BATCH), strict=True)
    correct = sum(count_correct(model, *batch) for batch in batches)
    reset_neurons(model)
    model.train(was_training)
    return correct / len(labels)


def count_correct(model: nn.Module, images: Tensor, labels: Tensor) -> int:
    """How many of one batch [B, ...] are recognised; in the mode the model is in."""
    reset_neurons(model)
    return int((model(images).argmax(-1) == labels).sum())
