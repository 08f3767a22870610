"""N-MNIST (Orchard et al., Frontiers in Neuroscience 9:437, 2015): MNIST in front of a moving ATIS camera.

    event   5 bytes, big endian: x, y, polarity (1 bit, 1 brighter), time in microseconds (23 bits)

An event with y = 240 is no pixel: from it on, 2^13 microseconds are added (the release's own reader, `Read_Ndataset`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from spikenm_compile.training.datasets.files import damaged, read_bytes
from spikenm_compile.training.datasets.frames import Frames, to_events
from spikenm_compile.training.datasets.kinds import DataOptions, DatasetKind, Source, Split
from spikenm_compile.training.datasets.recordings import EventFrames, Recording
from spikenm_compile.training.event_camera import Events

SIZE = 34
EVENT_BYTES = 5
OVERFLOW_Y = 240
OVERFLOW_US = 2**13
FOLDERS: dict[Split, str] = {"train": "Train", "test": "Test"}
FRAMES = Frames(num_steps=16, by="count")
SOURCE = Source(
    "n-mnist",
    "the folders Train and Test with a folder of .bin files per digit",
    "published on the N-MNIST page of Garrick Orchard (Train.zip, Test.zip)",
)


def read_n_mnist(path: Path) -> Events:
    """The events of a .bin file, ordered by time.

    Raises:
        DataError: an event that is cut off, or outside of 34×34 pixels.
    """
    data = np.frombuffer(read_bytes(path), np.uint8)
    left = len(data) % EVENT_BYTES
    if left:
        raise damaged(path, len(data) - left, f"an event of {left} bytes", f"events have {EVENT_BYTES} bytes")
    x, y, high, middle, low = data.reshape(-1, EVENT_BYTES).T.astype(np.int64)
    is_overflow = y == OVERFLOW_Y
    wrong = np.flatnonzero(~is_overflow & ((x >= SIZE) | (y >= SIZE)))
    if len(wrong):
        place = EVENT_BYTES * int(wrong[0])
        raise damaged(path, place, f"an event at ({x[wrong[0]]}, {y[wrong[0]]})", f"N-MNIST has {SIZE}×{SIZE} pixels")
    t = ((high & 127) << 16 | middle << 8 | low) + OVERFLOW_US * np.cumsum(is_overflow)
    return to_events(*(column[~is_overflow] for column in (x, y, high >> 7, t)))


def load_n_mnist(root: Path, split: Split, options: DataOptions) -> EventFrames:
    """Recordings of a split.

    Raises:
        DataError: folders are missing or empty.
    """
    folder = SOURCE.require(root / FOLDERS[split])
    recordings = [
        Recording(path, digit)
        for digit in range(10)
        for path in sorted(SOURCE.require(folder / str(digit)).glob("*.bin"))
    ]
    SOURCE.require_samples(len(recordings), folder)
    return EventFrames(recordings, read_n_mnist, options.frames or FRAMES, (SIZE, SIZE), options.cache)


N_MNIST = DatasetKind((2, SIZE, SIZE), 10, 60_000, 10_000, load_n_mnist, SOURCE, FRAMES)
