"""CIFAR10-DVS (Li et al., Frontiers in Neuroscience 11:309, 2017): CIFAR-10 pictures moving in front of a DVS128.

The publishers do not split it. Here the first hundred recordings of each class are for test, as Duan et al. (NeurIPS
2022, Temporal Effective Batch Normalization) and SpikingJelly's `CIFAR10DVSTEBNSplit` have it. SpikingJelly notes that
accuracies on it are typically much higher than on a random split: the two cannot be compared.
"""

from __future__ import annotations

import re
from pathlib import Path

from spikenm_compile.training.datasets.aedat2 import SIZE, read_aedat2
from spikenm_compile.training.datasets.frames import Frames
from spikenm_compile.training.datasets.kinds import DataOptions, DatasetKind, Source, Split
from spikenm_compile.training.datasets.recordings import EventFrames, Recording

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
NUM_TEST = 100
"""Recordings of each class, those with the lowest numbers."""
FRAMES = Frames(num_steps=10, by="count")
SOURCE = Source(
    "cifar10-dvs",
    "a folder per class (airplane ... truck) of files cifar10_CLASS_NUMBER.aedat",
    "published on figshare as CIFAR10-DVS (airplane.zip ... truck.zip)",
)


def load_cifar10_dvs(root: Path, split: Split, options: DataOptions) -> EventFrames:
    """Recordings of a split.

    Raises:
        DataError: folders are missing or empty.
    """
    recordings = [
        Recording(path, label)
        for label, name in enumerate(CLASSES)
        for number, path in _numbered(SOURCE.require(root / name), name)
        if (number < NUM_TEST) == (split == "test")
    ]
    SOURCE.require_samples(len(recordings), root)
    return EventFrames(recordings, read_aedat2, options.frames or FRAMES, (SIZE, SIZE), options.cache)


def _numbered(folder: Path, name: str) -> list[tuple[int, Path]]:
    """Recordings of a class by the number in their name."""
    found = ((re.fullmatch(rf"cifar10_{name}_(\d+)\.aedat", path.name), path) for path in folder.glob("*.aedat"))
    return sorted((int(match[1]), path) for match, path in found if match)


CIFAR10_DVS = DatasetKind((2, SIZE, SIZE), 10, 9_000, 1_000, load_cifar10_dvs, SOURCE, FRAMES)
