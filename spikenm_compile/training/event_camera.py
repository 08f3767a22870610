"""An event camera: pixels that report, each by itself and at any time, that their logarithmic intensity has changed.

    event   (x, y, polarity, t)   after |log I(t) - log I(last event of this pixel)| >= contrast
    polarity 1: brighter, 0: darker; t in microseconds; x to the right, y downwards

The model is that of Lichtsteiner et al. (IEEE JSSC 43(2), 2008) at 1 ms resolution, plus noise events at a constant
rate. Pixels of one millisecond fire at random microseconds inside of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

EVENT = np.dtype([("x", "<u2"), ("y", "<u2"), ("polarity", "<u2"), ("t", "<u4")])
"""One address-event; `t` in microseconds."""
Events = npt.NDArray[np.void]
"""One-dimensional array of EVENT, ordered by time."""
MICROSECONDS = 1000
"""In one frame of the scene."""


@dataclass(frozen=True)
class EventCamera:
    """The sensor."""

    contrast: float = 0.18
    """Change of the logarithmic intensity that makes an event."""
    noise_rate: float = 10.0
    """Events per pixel and second without any change."""

    def record(self, scene: npt.NDArray[np.float64], rng: np.random.Generator) -> Events:
        """Events of a scene.

        Args:
            scene: [frames, H, W] intensity above 0, one frame each millisecond.
            rng: when pixels fire inside of a millisecond, and the noise.
        """
        logarithm = np.log(scene)
        last = logarithm[0].copy()
        parts = []
        for frame, now in enumerate(logarithm[1:]):
            steps = np.trunc((now - last) / self.contrast)
            last += steps * self.contrast
            noise = rng.random(now.shape) < self.noise_rate / MICROSECONDS
            parts.append(_fired(np.where(steps == 0, noise * rng.choice((-1, 1), now.shape), steps), frame, rng))
        return np.concatenate(parts)


def _fired(change: npt.NDArray[np.float64], frame: int, rng: np.random.Generator) -> Events:
    """One event of each pixel with a change in this millisecond, ordered by time."""
    y, x = np.nonzero(change)
    events = np.empty(len(y), EVENT)
    events["x"], events["y"], events["polarity"] = x, y, change[y, x] > 0
    events["t"] = np.sort(frame * MICROSECONDS + rng.integers(0, MICROSECONDS, len(y)))
    return events


def bin_events(events: Events, num_steps: int, step_us: int, height: int, width: int) -> npt.NDArray[np.float32]:
    """Events counted by step: [T, 2, H, W]; step t holds the events with t·step_us <= time < (t + 1)·step_us.

    Events behind the last step are left out.
    """
    counts = np.zeros((num_steps, 2, height, width), np.float32)
    step = events["t"] // step_us
    seen = events[step < num_steps]
    np.add.at(counts, (step[step < num_steps], seen["polarity"], seen["y"], seen["x"]), 1.0)
    return counts
