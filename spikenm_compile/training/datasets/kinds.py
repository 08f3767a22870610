"""What a data set is to the rest of the training: samples by number, facts that need no files, and how to load it."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from spikenm_compile.errors import DataError
from spikenm_compile.training.datasets.frames import Frames

Sample = tuple[Tensor, int]
"""float32 [C, H, W], or [T, C, H, W] of an event set, and the class from 0."""
Split = Literal["train", "test"]


@dataclass(frozen=True)
class DataOptions:
    """How a data set is read."""

    frames: Frames | None = None
    """How events become frames; None: as the set's own default."""
    cache: Path | None = None
    """Existing or new folder that keeps the frames of event sets; None: events are read again each time."""
    seed: int = 0
    """Of sets that are made or split on this machine: digits, event-digits, gestures."""


class Samples(Dataset[Sample], ABC):
    """Samples by number, in any order and as often as wanted; what a DataLoader takes."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> Sample: ...

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))


Loader = Callable[[Path, Split, DataOptions], Samples]


@dataclass(frozen=True)
class Source:
    """Where the files of a data set are expected, and who publishes them."""

    name: str
    expects: str
    """Files under the root."""
    published: str

    def require(self, path: Path) -> Path:
        """`path`, which exists.

        Raises:
            DataError: it does not.
        """
        if not os.path.exists(path):  # Path.exists raises where a folder may not be read
            raise DataError(
                f"{self.name}: there is no {path}; expected in the root are {self.expects}; "
                f"{self.published}, unpack it there"
            )
        return path

    def require_samples(self, number: int, place: Path) -> None:
        """Refuse a folder or file without samples.

        Raises:
            DataError: `number` is 0.
        """
        if number == 0:
            raise DataError(f"{self.name}: {place} holds no samples; expected in the root are {self.expects}")


@dataclass(frozen=True)
class DatasetKind:
    """A data set: its facts, which are known without its files, and its loader."""

    shape: tuple[int, ...]
    """Of a sample; of an event set: of one frame."""
    num_classes: int
    num_train: int
    num_test: int
    load: Loader
    source: Source | None = None
    """None: made on this machine, no files are needed."""
    frames: Frames | None = None
    """How events become frames unless options say otherwise; None: samples are not read from events."""

    def sample_shape(self, options: DataOptions) -> tuple[int, ...]:
        """Of a sample that is read with these options."""
        frames = options.frames or self.frames
        return self.shape if self.frames is None or frames is None else (frames.num_steps, *self.shape)


class ByteImages(Samples):
    """Images uint8 [N, C, H, W] in memory, given out one by one as float32 in 0..1."""

    def __init__(self, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64]) -> None:
        self.images = images
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Sample:
        return torch.from_numpy(self.images[index].astype(np.float32) / 255.0), int(self.labels[index])


class TensorSamples(Samples):
    """Samples [N, ...] and labels [N] that are in memory already."""

    def __init__(self, samples: Tensor, labels: Tensor) -> None:
        self.samples = samples
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index], int(self.labels[index])
