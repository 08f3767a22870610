"""The data of a recipe: facts that need no files, and samples as the network takes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import TensorDataset

from spikenm_compile.errors import InputError
from spikenm_compile.training.batches import Samples
from spikenm_compile.training.datasets.frames import Frames
from spikenm_compile.training.datasets.kinds import DataOptions, DatasetKind, Split, TensorSamples
from spikenm_compile.training.datasets.registry import dataset_kind, load_dataset
from spikenm_compile.training.encoders import latency, rate, sample_seed
from spikenm_compile.training.networks.task import Task
from spikenm_compile.training.recipe import DataChoice, Recipe

IMAGE_STEPS = 4
"""T of images where the recipe gives none."""
Change = Callable[[Tensor, int], Tensor]
"""(sample, its number) -> sample."""


def task_of(choice: DataChoice) -> Task:
    """What the network is made for; needs no files.

    Raises:
        InputError: options that the data set does not have.
    """
    kind = dataset_kind(choice.name)
    shape = kind.sample_shape(_options(choice, Path()))
    own_steps, sample = (shape[0], shape[1:]) if _has_time(kind) else (None, shape)
    if own_steps is not None and choice.encoder != "direct":
        raise InputError(f"data set '{choice.name}' has time already, and encoders are for images; leave encoder out")
    if own_steps is not None and choice.steps not in (0, own_steps):
        raise InputError(f"data set '{choice.name}' has {own_steps} steps; leave steps = {choice.steps} out")
    if choice.size and len(sample) == 3:
        sample = (sample[0], choice.size, choice.size)
    has_time = own_steps is not None or choice.encoder != "direct"
    return Task(sample, kind.num_classes, own_steps or choice.steps or IMAGE_STEPS, has_time=has_time)


def load_samples(recipe: Recipe, split: Split) -> Samples:
    """The samples of a split as the network takes them.

    Raises:
        DataError, InputError, ToolError: see `load_dataset`.
    """
    choice = recipe.data
    root = recipe.beside(choice.root) if choice.root else None
    samples = load_dataset(choice.name, root, split, _options(choice, recipe.path.parent))
    changes = tuple(_changes(choice, task_of(choice).num_steps, is_training=split == "train"))
    if isinstance(samples, TensorSamples) and not changes:
        return TensorDataset(samples.samples, samples.labels)  # read batch by batch
    return Prepared(samples, changes)


@dataclass(frozen=True)
class Prepared:
    """Samples, changed one by one when they are asked for."""

    samples: Samples
    changes: tuple[Change, ...]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        x, label = self.samples[index]
        for change in self.changes:
            x = change(x, index)
        return x, label


def _changes(choice: DataChoice, num_steps: int, *, is_training: bool) -> list[Change]:
    """What is done to a sample, in this order."""
    changes: list[Change] = []
    if choice.size:
        changes.append(lambda x, _index: scaled(x, choice.size))
    if is_training and choice.augment != "none":
        changes.append(lambda x, _index: shifted(x, flips=choice.augment == "shift-flip"))
    if choice.encoder == "latency":
        changes.append(lambda x, _index: latency(x, num_steps))
    if choice.encoder == "rate":
        changes.append(lambda x, index: rate(x[None], num_steps, [_noise_seed(index, is_training)]).squeeze(1))
    return changes


def scaled(x: Tensor, size: int) -> Tensor:
    """[..., H, W] to [..., size, size] by averages over areas."""
    return F.adaptive_avg_pool2d(x, size)


def shifted(x: Tensor, *, flips: bool) -> Tensor:
    """[..., H, W] moved by up to an eighth in each direction, the rest black, and mirrored in half of the cases.

    Draws from torch's global generator.
    """
    height, width = x.shape[-2:]
    down, right = (int(torch.randint(-(size // 8), size // 8 + 1, ())) for size in (height, width))
    moved = F.pad(x, (right, -right, down, -down))
    return moved.flip(-1) if flips and torch.rand(()) < 0.5 else moved


def _noise_seed(index: int, is_training: bool) -> int:
    """Of rate codes: drawn anew each time in training, always the same in tests."""
    return int(torch.randint(2**31, ())) if is_training else sample_seed(0, 0, index)


def _has_time(kind: DatasetKind) -> bool:
    return kind.frames is not None or len(kind.shape) == 4


def _options(choice: DataChoice, folder: Path) -> DataOptions:
    usual = dataset_kind(choice.name).frames
    cache = folder / choice.cache if choice.cache else None
    if usual is None:
        if choice.step_us is not None or choice.frames is not None:
            raise InputError(f"data set '{choice.name}' is not cut into frames; leave frames and step_us out")
        return DataOptions(None, cache, choice.seed)
    by = choice.frames or usual.by
    step_us = choice.step_us or (usual.step_us if by == usual.by else None)
    return DataOptions(Frames(choice.steps or usual.num_steps, by, step_us), cache, choice.seed)
