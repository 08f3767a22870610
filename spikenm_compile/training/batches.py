"""Which samples make which batch: a pure function of seed and epoch, the same on every process."""

from __future__ import annotations

import zlib
from functools import lru_cache
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import TensorDataset, default_collate

from spikenm_compile.training.digits import ImageData


class Samples(Protocol):
    """Samples with labels, as torch.utils.data.Dataset has them.

    Where there is `__getitems__(indices)`, as torch's data sets may have, a batch is read by one call of it.
    What a sample draws at random comes from torch's global generator, so that a resumed training draws the same.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[Any, ...]:
        """(input of the model [...], label)."""
        ...


def training_samples(data: ImageData | Samples) -> Samples:
    """What `data` has to train on."""
    return TensorDataset(data.train_images, data.train_labels) if isinstance(data, ImageData) else data


def samples_for_test(data: ImageData | Samples) -> Samples | None:
    """What `data` has to test on, None where it does not say."""
    return TensorDataset(data.test_images, data.test_labels) if isinstance(data, ImageData) else None


def number_of(*key: object) -> int:
    """A seed made of a key."""
    return zlib.crc32("/".join(map(str, key)).encode())


@lru_cache(maxsize=2)
def order_of(num_samples: int, seed: int, epoch: int) -> Tensor:
    """Indices of all samples in the order in which `epoch` uses them."""
    return torch.randperm(num_samples, generator=torch.Generator().manual_seed(number_of(seed, "order", epoch)))


def read_batch(samples: Samples, indices: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs [B, ...] and labels [B] of these samples."""
    if isinstance(samples, TensorDataset):
        images, labels = samples[indices]
        return images, labels
    read_all = getattr(samples, "__getitems__", None)
    chosen = indices.tolist()
    inputs, targets = default_collate(read_all(chosen) if read_all else [samples[i] for i in chosen])
    return inputs, targets
