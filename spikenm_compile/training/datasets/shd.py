"""Spiking Heidelberg Digits (Cramer et al., IEEE TNNLS 33(7), 2022): spoken digits as spikes of 700 channels.

    shd_train.h5, shd_test.h5   spikes/times [N] of seconds, spikes/units [N] of channels, labels [N]

A sample becomes frames [T, 700] of spike counts.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from spikenm_compile.errors import DataError, ToolError
from spikenm_compile.training.datasets.frames import Frames, count_events, to_events
from spikenm_compile.training.datasets.kinds import DataOptions, DatasetKind, Sample, Samples, Source, Split
from spikenm_compile.training.event_camera import Events

NUM_CHANNELS = 700
NUM_CLASSES = 20
"""Ten digits in German and in English."""
LONGEST_S = 60.0
"""Spoken digits last about a second; longer than this is damage."""
FRAMES = Frames(num_steps=100, by="time", step_us=14_000)
SOURCE = Source("shd", "shd_train.h5 and shd_test.h5", "published by Zenke Lab as the Heidelberg Spiking Datasets")
Number = TypeVar("Number", bound=np.generic)
BROKEN = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, OverflowError, MemoryError)
"""What h5py raises for files that are damaged or hold something else."""


class SpokenDigits(Samples):
    """Samples of one file as frames float32 [T, 700], read when they are asked for.

    Raises:
        ToolError: h5py is not installed.
        DataError: the file is damaged or no file of SHD.
    """

    def __init__(self, path: Path, frames: Frames) -> None:
        self.path = path
        self.frames = frames
        self._opened: tuple[int, Any] | None = None
        labels = self._entry("labels")
        lengths = [len(labels), len(self._entry("spikes/times")), len(self._entry("spikes/units"))]
        if len(set(lengths)) != 1:
            raise self._damaged(f"labels, times and units have {lengths} entries", "there is one of each per sample")
        self.labels = self._value(labels, slice(None), np.int64)
        wrong = np.flatnonzero((self.labels < 0) | (self.labels >= NUM_CLASSES))
        if len(wrong):
            raise self._damaged(
                f"sample {wrong[0]} has class {self.labels[wrong[0]]}", f"classes are 0 to {NUM_CLASSES - 1}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Sample:
        counts = count_events(self.events(index), self.frames, 1, NUM_CHANNELS)
        return torch.from_numpy(counts[:, 0, 0]), int(self.labels[index])

    def __getstate__(self) -> dict[str, Any]:
        """Without the open file: a worker process opens its own."""
        return self.__dict__ | {"_opened": None}

    def events(self, index: int) -> Events:
        """Spikes of a sample: x is the channel, t in microseconds, y and polarity are 0."""
        times = self._value(self._entry("spikes/times"), index, np.float64)
        units = self._value(self._entry("spikes/units"), index, np.int64)
        if times.shape != units.shape or times.ndim != 1:
            raise self._damaged(
                f"sample {index} has {times.shape} times, {units.shape} units", "each spike has one of both"
            )
        if not ((times >= 0) & (times <= LONGEST_S)).all():
            raise self._damaged(f"sample {index} has times outside of 0 to {LONGEST_S:g} s", "times are in seconds")
        if not ((units >= 0) & (units < NUM_CHANNELS)).all():
            raise self._damaged(f"sample {index} has units outside of 0 to {NUM_CHANNELS - 1}", "units are channels")
        return to_events(units, 0, 0, np.round(times * 1e6).astype(np.int64))

    def _entry(self, name: str) -> Any:
        """A dataset of the file, which each process opens for itself."""
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = os.getpid(), _open(self.path)
        try:
            entry = self._opened[1][name]
            (_,) = entry.shape
            return entry
        except BROKEN as error:
            raise self._damaged(
                f"{name} cannot be read ({error})", "files of SHD have labels, spikes/times and units"
            ) from error

    def _value(self, entry: Any, index: int | slice, kind: type[Number]) -> npt.NDArray[Number]:
        try:
            return np.asarray(entry[index]).astype(kind)
        except BROKEN as error:
            raise self._damaged(f"{entry.name} cannot be read ({error})", "numbers are expected there") from error

    def _damaged(self, found: str, supported: str) -> DataError:
        return DataError(f"{self.path}: {found}; {supported}; take a fresh copy of the file")


def _open(path: Path) -> Any:
    try:
        import h5py
    except ImportError as error:
        raise ToolError(
            "h5py is not installed; files of SHD are HDF5; use pip install 'spikenm-compile[data]'"
        ) from error
    try:
        return h5py.File(path, "r")
    except BROKEN as error:
        raise DataError(
            f"{path} is no whole HDF5 file ({error}); SHD is published as HDF5; take a fresh copy"
        ) from error


def load_shd(root: Path, split: Split, options: DataOptions) -> SpokenDigits:
    """Samples of a split; the cache is not used, since samples are small.

    Raises:
        DataError: the file is missing or damaged.
    """
    path = SOURCE.require(root / f"shd_{split}.h5")
    samples = SpokenDigits(path, options.frames or FRAMES)
    SOURCE.require_samples(len(samples), path)
    return samples


SHD = DatasetKind((NUM_CHANNELS,), NUM_CLASSES, 8_156, 2_264, load_shd, SOURCE, FRAMES)
