"""What every loaded artifact can do: run a sequence, take one step with explicit state, and show its spikes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from spikenm_compile.artifact.directory import Artifact
from spikenm_compile.artifact.manifest import Manifest
from spikenm_compile.errors import InputError

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """State of a batch between two steps. A step returns a new one and leaves the old one as it is."""

    digest: str
    """Digest of the manifest of the model it belongs to."""
    num_steps: int
    """Steps taken so far."""
    values: Mapping[str, npt.NDArray[Any]]
    """State name -> [B, ...]: membrane potentials and running readouts, for reading."""
    memory: npt.NDArray[np.uint8]
    """[B, bytes] state of native code, of which `values` are views; empty for ONNX."""

    @property
    def batch(self) -> int:
        """Number of samples."""
        return int(self.memory.shape[0])


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """Everything that can be seen of a run, for verification."""

    output: Floats
    """[B, ...], or [T, B, ...] where the model returns every step."""
    states: Mapping[str, npt.NDArray[Any]]
    """State name -> [B, ...] after the last step; height, width, channels in native code."""
    spikes: Mapping[str, npt.NDArray[Any]]
    """Layer -> spikes 0 and 1: uint8 [T, B, C, H, W] of native code, float32 [T, B, ...] of ONNX."""


class Model(ABC):
    """An artifact that is ready to run. May be used from several threads at once."""

    def __init__(self, artifact: Artifact) -> None:
        self.path = artifact.path
        self.manifest: Manifest = artifact.manifest

    def run(self, x: Floats, num_steps: int | None = None) -> Floats:
        """Run T steps from the initial state.

        Args:
            x: float32 [B, ...], or [T, B, ...] where `manifest.input.per_step`.
            num_steps: T; by default the manifest's, or that of x.

        Returns:
            float32 [B, ...], or [T, B, ...] where `manifest.output.per_step`.

        Raises:
            InputError: x has another dtype or shape, or num_steps is below 1 or not that of x.
        """
        x = self._check_array(x, per_step=self.manifest.input.per_step)
        return self._sequence(x, self._check_num_steps(x, num_steps), record=False).output

    def trace(self, x: Floats, num_steps: int | None = None) -> Trace:
        """As `run`, and return the final state and all spikes too.

        Raises:
            InputError: as for `run`.
        """
        x = self._check_array(x, per_step=self.manifest.input.per_step)
        return self._sequence(x, self._check_num_steps(x, num_steps), record=True)

    def step(self, x_t: Floats, state: State) -> tuple[Floats, State]:
        """Take one step.

        Args:
            x_t: float32 [B, ...] input of this step.
            state: state after the steps so far; it is not changed.

        Returns:
            The output over the steps so far ([B, ...]; that of this step where `manifest.output.per_step`) and the new
            state. T steps give exactly what `run` gives for T.

        Raises:
            InputError: x_t has another dtype or shape, or the state is of another model or batch.
        """
        x_t = self._check_array(x_t, per_step=False)
        self._check_state(x_t, state)
        return self._step(x_t, state)

    def initial_state(self, batch: int = 1) -> State:
        """State before the first step.

        Raises:
            InputError: batch < 1.
        """
        if batch < 1:
            raise InputError(f"a state for a batch of {batch} samples cannot be made; give batch >= 1")
        return self._initial_state(batch)

    def __repr__(self) -> str:
        m = self.manifest
        shapes = f"{list(m.input.shape)} to {list(m.output.shape)}"
        return f"<{type(self).__name__} '{m.name}' for {m.target}: {shapes}, T={m.num_steps}>"

    @abstractmethod
    def _sequence(self, x: Floats, num_steps: int, *, record: bool) -> Trace:
        """Run checked input; states and spikes may be left out unless `record`."""

    @abstractmethod
    def _step(self, x_t: Floats, state: State) -> tuple[Floats, State]:
        """Take one step of checked input."""

    @abstractmethod
    def _initial_state(self, batch: int) -> State:
        """State before the first step."""

    def _check_array(self, x: object, *, per_step: bool) -> Floats:
        """`x` as a contiguous array, if it has the dtype and shape of [B, ...], or [T, B, ...] if `per_step`."""
        if not isinstance(x, np.ndarray):
            raise InputError(
                f"the input is a {type(x).__name__}; a numpy array is supported; use numpy.asarray(x, numpy.float32)"
            )
        if x.dtype != np.float32:
            raise InputError(f"the input has dtype {x.dtype}; float32 is supported; use x.astype(numpy.float32)")
        shape, leading = self.manifest.input.shape, 2 if per_step else 1
        if x.ndim != leading + len(shape) or x.shape[leading:] != shape:
            expected = ", ".join([*("TB" if per_step else "B"), *map(str, shape)])
            raise InputError(f"the input has shape {list(x.shape)}; [{expected}] is expected; reshape it")
        if 0 in x.shape:
            raise InputError(
                f"the input has shape {list(x.shape)} and so no value; give at least one sample and one step"
            )
        return np.ascontiguousarray(x)

    def _check_num_steps(self, x: Floats, num_steps: int | None) -> int:
        """T of a run of checked input."""
        if num_steps is not None and num_steps < 1:
            raise InputError(f"num_steps={num_steps} runs nothing; give num_steps >= 1")
        if not self.manifest.input.per_step:
            return self.manifest.num_steps if num_steps is None else num_steps
        if num_steps not in (None, x.shape[0]):
            raise InputError(
                f"num_steps={num_steps}, but the input holds {x.shape[0]} steps; "
                "leave num_steps out or cut the input to x[:num_steps]"
            )
        return int(x.shape[0])

    def _check_state(self, x_t: Floats, state: State) -> None:
        if state.digest != self.manifest.digest:
            raise InputError(
                f"the state belongs to another model than '{self.manifest.name}'; "
                "a state serves the model that made it; use initial_state() of this model"
            )
        if state.batch != x_t.shape[0]:
            raise InputError(
                f"the state is for a batch of {state.batch}, but the input has {x_t.shape[0]} samples; "
                f"use initial_state(batch={x_t.shape[0]})"
            )
