"""Data sets that are made on this machine or come with a library: digits, gestures and event-digits."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from spikenm_compile.training.datasets.kinds import DataOptions, DatasetKind, Split, TensorSamples
from spikenm_compile.training.digits import ImageData, load_digits
from spikenm_compile.training.event_digits import load_event_digits


@dataclass(frozen=True)
class Made:
    """A data set by its seed."""

    make: Callable[[int], ImageData]

    def load(self, _root: Path, split: Split, options: DataOptions) -> TensorSamples:
        """Samples of a split, in memory."""
        data = _kept(self.make, options.seed)
        if split == "train":
            return TensorSamples(data.train_images, data.train_labels)
        return TensorSamples(data.test_images, data.test_labels)


@functools.lru_cache(maxsize=1)
def _kept(make: Callable[[int], ImageData], seed: int) -> ImageData:
    """Both splits of one set are asked for one after the other."""
    return make(seed)


def _gestures(seed: int) -> ImageData:
    from spikenm_compile.training.gestures import load_gestures

    return load_gestures(seed=seed)


DIGITS = DatasetKind((1, 8, 8), 10, 1_438, 359, Made(load_digits).load)
EVENT_DIGITS = DatasetKind((8, 2, 16, 16), 10, 1_438, 359, Made(load_event_digits).load)
GESTURES = DatasetKind((16, 2, 32, 32), 8, 1_024, 256, Made(_gestures).load)
