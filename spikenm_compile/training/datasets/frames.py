"""Events to frames: how many events of each polarity each pixel had in each time step.

    by count   step(i) = min(i // max(N // T, 1), T - 1)              event i of N: equally many in each step
    by time    step(i) = min((t_i - t_0) // max((t_N - t_0) // T, 1), T - 1)    equally long steps
    step_us    step(i) = (t_i - t_0) // step_us                       steps of one length; later events are left out

The first two are the fixed frame numbers of SpikingJelly (datasets/utils.py, `cal_fixed_frames_number_segment_index`),
so that results can be compared; here a step without events is a frame of zeros.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from spikenm_compile.errors import InputError
from spikenm_compile.training.event_camera import EVENT, Events

Steps = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Frames:
    """How a recording is cut into time steps.

    Raises:
        InputError: a number below 1, or a fixed length of steps that are cut by count.
    """

    num_steps: int = 16
    by: Literal["count", "time"] = "count"
    step_us: int | None = None
    """Microseconds of a step; None: the whole recording is shared out. Only by time."""

    def __post_init__(self) -> None:
        if self.by not in ("count", "time"):
            raise InputError(f"frames are cut by '{self.by}'; count and time are supported; choose one of them")
        if self.num_steps < 1 or (self.step_us is not None and self.step_us < 1):
            raise InputError(
                f"frames have num_steps {self.num_steps}, step_us {self.step_us}; both are 1 or more; choose others"
            )
        if self.by == "count" and self.step_us is not None:
            raise InputError(f"frames by count have step_us {self.step_us}; only frames by time have it; use by='time'")


def to_events(x: npt.ArrayLike, y: npt.ArrayLike, polarity: npt.ArrayLike, t: npt.NDArray[np.integer]) -> Events:
    """Columns [N] as events ordered by time, stably. `t`: microseconds in 32 bits."""
    events = np.empty(len(t), EVENT)
    events["x"], events["y"], events["polarity"], events["t"] = x, y, polarity, t
    is_ordered = bool((events["t"][1:] >= events["t"][:-1]).all())
    return events if is_ordered else events[np.argsort(events["t"], kind="stable")]


def steps_of(events: Events, frames: Frames) -> Steps:
    """The time step [N] of each event; `frames.num_steps` and above: behind the last."""
    number, last = len(events), frames.num_steps - 1
    if frames.by == "count":
        return np.minimum(np.arange(number) // max(number // frames.num_steps, 1), last)
    since = events["t"].astype(np.int64)
    since -= since[:1].sum()  # of the first event, if there is one
    if frames.step_us is not None:
        return since // frames.step_us
    length = int(since[-1:].sum()) // frames.num_steps
    return np.minimum(since // max(length, 1), last)


def count_events(events: Events, frames: Frames, height: int, width: int) -> npt.NDArray[np.float32]:
    """Frames [T, 2, H, W] of events that lie inside of [H, W]."""
    step = steps_of(events, frames)
    seen, step = events[step < frames.num_steps], step[step < frames.num_steps]
    plane = step * 2 + (seen["polarity"] != 0)
    place = (plane * height + seen["y"]) * width + seen["x"]
    shape = (frames.num_steps, 2, height, width)
    return np.bincount(place, minlength=int(np.prod(shape))).reshape(shape).astype(np.float32)
