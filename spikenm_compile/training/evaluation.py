"""How good a model is, and how its neurons forget the batch before."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from spikenm_compile.training.batches import Samples, read_batch
from spikenm_compile.training.distributed import World, agree_on_buffers

EVALUATION_BATCH = 256
RESETS = ("reset", "reset_states", "reset_mem")
"""What libraries call it: SpikingJelly and ours, sinabs, snnTorch."""


def reset_neurons(model: nn.Module) -> None:
    """Call `reset()` of every module that has one: potentials of the batch before must not leak into the next."""
    for module in model.modules():
        reset = next((r for name in RESETS if callable(r := getattr(module, name, None))), None)
        if reset is not None:
            reset()


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of `images` [N, ...] whose largest class logit is the label, in evaluation mode; the mode is put back."""
    return share_recognised(model, TensorDataset(images, labels), World(0, 1))


@torch.no_grad()
def share_recognised(model: nn.Module, samples: Samples, world: World) -> float:
    """`accuracy` of samples that need not be in memory, each process doing its part of them."""
    was_training, device = model.training, next(model.parameters()).device
    agree_on_buffers(model, world)
    model.eval()
    correct = 0
    for batch in torch.split(torch.arange(len(samples)), EVALUATION_BATCH * world.size):
        mine = batch[world.rank :: world.size]
        # A process with nothing to do in the last batch takes part all the same: its share of the weights is needed.
        images, labels = read_batch(samples, mine if len(mine) else batch[:1])
        reset_neurons(model)
        hits = model(images.to(device)).argmax(-1) == labels.to(device)
        correct += int(hits[: len(mine)].sum())
    reset_neurons(model)
    model.train(was_training)
    return world.sum(correct) / len(samples)
