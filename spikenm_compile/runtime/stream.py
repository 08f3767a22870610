"""One sample in progress on a C library: frames or address-events in, the output after each step out."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from spikenm_compile.artifact.manifest import Manifest
from spikenm_compile.errors import InputError
from spikenm_compile.runtime.c_functions import CFunctions
from spikenm_compile.runtime.memory import Bytes, aligned_zeros
from spikenm_compile.runtime.model import Floats

EVENT = np.dtype([("t", "<u8"), ("x", "<u2"), ("y", "<u2"), ("channel", "<u2")], align=True)
"""An address-event as the library takes it; `t` in microseconds."""


class Stream:
    """Keeps its own state. To be used by one thread at a time.

    Args:
        functions: of the library.
        arena: initialised memory that nobody else uses.
        manifest: of the model.
        state_bytes: size of the state.
        start_us: time at which the first window of events begins.
        step_us: length of a window; 0: the library's.
    """

    def __init__(
        self, functions: CFunctions, arena: Bytes, manifest: Manifest, state_bytes: int, start_us: int, step_us: int
    ) -> None:
        self._functions, self._arena, self._manifest = functions, arena, manifest
        self._state = aligned_zeros(state_bytes)
        self._output = np.empty(manifest.output.shape, np.float32)
        self._used = ctypes.c_size_t()
        self._both = arena.ctypes.data, self._state.ctypes.data
        self.reset(start_us=start_us, step_us=step_us)

    def reset(self, *, start_us: int = 0, step_us: int = 0) -> None:
        """Begin anew, and count events from `start_us` on in windows of `step_us` microseconds (0: the library's)."""
        if not (0 <= start_us < 2**64 and 0 <= step_us < 2**32):
            raise InputError(
                f"start_us={start_us} and step_us={step_us} are not supported; give microseconds below 2^64 and 2^32"
            )
        self._functions.events_begin(*self._both, start_us, step_us)

    def step(self, frame: Floats) -> Floats:
        """Take one step.

        Args:
            frame: float32 of the shape of one sample of one step.

        Returns:
            The output over the steps since the reset, or of this step where `manifest.output.per_step`.

        Raises:
            InputError: another shape or dtype.
        """
        shape = self._manifest.input.shape
        if not isinstance(frame, np.ndarray) or frame.dtype != np.float32 or frame.shape != shape:
            found = f"{frame.dtype} {list(frame.shape)}" if isinstance(frame, np.ndarray) else type(frame).__name__
            raise InputError(f"the frame is {found}; a float32 array {list(shape)} is supported; convert it")
        frame = np.ascontiguousarray(frame)
        self._functions.steps(*self._both, frame.ctypes.data, 1, self._output.ctypes.data)
        return self._output.copy()

    def push(self, events: npt.NDArray[np.void]) -> Iterator[Floats]:
        """Count events; yields the output of each window that they end. Nothing is counted unless it is iterated.

        Args:
            events: [n] of dtype EVENT; inside of a window in any order.

        Raises:
            InputError: another dtype; an event outside of the input, or older than the window that is being counted.
        """
        if not isinstance(events, np.ndarray) or events.dtype != EVENT or events.ndim != 1:
            raise InputError(
                "the events are not a one-dimensional array of dtype EVENT; x, y, channel and t in microseconds are "
                "supported; use numpy.array(..., spikenm_compile.runtime.EVENT)"
            )
        events = np.ascontiguousarray(events)
        done = 0
        while done < len(events):
            address, left = events.ctypes.data + done * EVENT.itemsize, len(events) - done
            ended = self._functions.events_push(
                *self._both, address, left, ctypes.byref(self._used), self._output.ctypes.data
            )
            done += self._used.value
            if ended:
                yield self._output.copy()

    def until(self, now_us: int) -> Iterator[Floats]:
        """Time has come to `now_us` without more events: yields the output of each window that this ends."""
        while self._functions.events_until(*self._both, now_us, self._output.ctypes.data):
            yield self._output.copy()

    def flush(self) -> Floats:
        """End the current window at once; its output."""
        self._functions.events_flush(*self._both, self._output.ctypes.data)
        return self._output.copy()
