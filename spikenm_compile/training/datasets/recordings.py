"""Event sets: recordings in files, read one by one and cut into frames, which a cache may keep."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from spikenm_compile.training.datasets.cache import FrameCache
from spikenm_compile.training.datasets.frames import Frames, count_events
from spikenm_compile.training.datasets.kinds import Sample, Samples
from spikenm_compile.training.event_camera import Events


@dataclass(frozen=True)
class Recording:
    """A sample: a file, or a part of it."""

    path: Path
    label: int
    start_us: int = 0
    stop_us: int | None = None
    """Exclusive; None: to the end."""

    def cut(self, events: Events) -> Events:
        """The events of this part."""
        stop = len(events) if self.stop_us is None else np.searchsorted(events["t"], self.stop_us)
        return events[np.searchsorted(events["t"], self.start_us) : stop]


class EventFrames(Samples):
    """Recordings as frames float32 [T, 2, H, W]; files are read when a sample is asked for."""

    def __init__(
        self,
        recordings: Sequence[Recording],
        read: Callable[[Path], Events],
        frames: Frames,
        size: tuple[int, int],
        cache: Path | None,
    ) -> None:
        self.recordings = tuple(recordings)
        self.read = read
        self.frames = frames
        self.size = size
        self.cache = None if cache is None else FrameCache(cache)
        self._last: tuple[Path, Events] | None = None

    def __len__(self) -> int:
        return len(self.recordings)

    def __getitem__(self, index: int) -> Sample:
        recording = self.recordings[index]
        if self.cache is None:
            counts = count_events(self.events(index), self.frames, *self.size)
        else:
            counts = self.cache.get(
                (recording, self.frames, self.size),
                recording.path,
                lambda: count_events(self.events(index), self.frames, *self.size),
            )
        return torch.from_numpy(counts), recording.label

    def events(self, index: int) -> Events:
        """The events of a sample; neighbours in one file share one reading of it."""
        recording = self.recordings[index]
        if self._last is None or self._last[0] != recording.path:
            self._last = recording.path, self.read(recording.path)
        return recording.cut(self._last[1])
