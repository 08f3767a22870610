"""Run an artifact whose code is a C library with its own header, through the functions that a C program calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

import numpy as np
import numpy.typing as npt

from spikenm_compile.artifact.c_library import read_c_library_code
from spikenm_compile.artifact.directory import Artifact
from spikenm_compile.errors import ArtifactError, TargetError
from spikenm_compile.runtime.c_functions import CFunctions
from spikenm_compile.runtime.machine import check_machine
from spikenm_compile.runtime.memory import Bytes, aligned_zeros, state_values
from spikenm_compile.runtime.model import Floats, Model, State, Trace
from spikenm_compile.runtime.stream import Stream


class CLibraryModel(Model):
    """A C library, loaded. Inputs, outputs and states are worked on where they lie.

    Args:
        artifact: a checked artifact whose code is of kind c_library.
        threads: samples of a batch that run at a time; each thread expands the weights for itself.

    Raises:
        ArtifactError: the code section or the library is not as it should be.
        TargetError: this machine cannot run it, or it was not linked.
    """

    def __init__(self, artifact: Artifact, threads: int = 1) -> None:
        super().__init__(artifact)
        self._code = code = read_c_library_code(artifact)
        check_machine(artifact.manifest.name, code.machine, ())
        if code.library is None:
            raise TargetError(
                f"artifact '{artifact.path}' holds no shared library, since there was no C compiler for its target "
                "where it was built; build it again on a machine that has one"
            )
        self._functions = CFunctions(artifact.path / code.library, code.symbol)
        self._check_sizes()
        self._initial = aligned_zeros(code.state_bytes)
        self._threads = threads
        # Taking an arena out of the queue is also the lock: no two threads work in the same memory.
        self._memory = [self._new_arena() for _ in range(threads)]
        self._arenas: SimpleQueue[int] = SimpleQueue()
        for arena in self._memory:
            self._arenas.put(arena.ctypes.data)

    def stream(self, *, start_us: int = 0, step_us: int | None = None) -> Stream:
        """One sample in progress: frames or address-events in, outputs out.

        Args:
            start_us: time at which the first window of events begins, in microseconds.
            step_us: length of a window: one time step; by default the library's.
        """
        return Stream(self._functions, self._new_arena(), self.manifest, self._code.state_bytes, start_us, step_us or 0)

    def _check_sizes(self) -> None:
        found = self._functions.arena_size(), self._functions.state_size()
        if found != (self._code.arena_bytes, self._code.state_bytes):
            raise ArtifactError(
                f"{self.path}: the library needs {found} bytes of arena and state, its manifest says "
                f"{(self._code.arena_bytes, self._code.state_bytes)}; build the artifact again"
            )

    def _new_arena(self) -> Bytes:
        """An arena with expanded weights; the state that `init` resets is the initial one."""
        arena = aligned_zeros(self._code.arena_bytes)
        self._functions.init(arena.ctypes.data, self._initial.ctypes.data)
        return arena

    def _sequence(self, x: Floats, num_steps: int, *, record: bool) -> Trace:
        input_spec, output_spec = self.manifest.input, self.manifest.output
        samples = np.ascontiguousarray(x.swapaxes(0, 1)) if input_spec.per_step else x
        batch = len(samples)
        outputs = np.empty((batch, num_steps if output_spec.per_step else 1, *output_spec.shape), np.float32)
        memory = self._states(batch)
        layers = self._code.spikes if record else ()
        spikes = {layer: np.empty((num_steps, batch, *shape), np.uint8) for layer, shape in layers}

        addresses = [_rows(array) for array in (memory, samples, outputs)]

        def run_sample(b: int, arena: int) -> None:
            state, sample, output = (rows[b] for rows in addresses)
            if not record:
                self._functions.run(arena, state, sample, num_steps, output)
                return
            self._functions.reset(arena, state)
            for start in range(0, num_steps, self._code.max_steps):
                stop = min(start + self._code.max_steps, num_steps)
                part = samples[b, start:].ctypes.data if input_spec.per_step else sample
                result = outputs[b, start:].ctypes.data if output_spec.per_step else output
                self._functions.steps(arena, state, part, stop - start, result)
                self._read_spikes(arena, {layer: values[start:stop, b] for layer, values in spikes.items()})

        self._for_each(run_sample, batch)
        output = np.ascontiguousarray(outputs.swapaxes(0, 1)) if output_spec.per_step else outputs[:, 0]
        return Trace(output, state_values(memory, self._code.states), spikes)

    def _read_spikes(self, arena: int, spikes: dict[str, npt.NDArray[np.uint8]]) -> None:
        """Copy the spikes of the last call into `spikes`, layer -> [steps, C, H, W]."""
        for index, values in enumerate(spikes.values()):
            one_step = np.empty(values.shape[1:], np.uint8)
            for step in range(len(values)):
                self._functions.spikes(arena, index, step, one_step.ctypes.data)
                values[step] = one_step

    def _step(self, x_t: Floats, state: State) -> tuple[Floats, State]:
        outputs = np.empty((len(x_t), *self.manifest.output.shape), np.float32)
        memory = self._states(len(x_t))
        memory[:] = state.memory

        addresses = [_rows(array) for array in (memory, x_t, outputs)]

        def run_sample(b: int, arena: int) -> None:
            state, frame, output = (rows[b] for rows in addresses)
            self._functions.steps(arena, state, frame, 1, output)

        self._for_each(run_sample, len(x_t))
        return outputs, self._state(memory, state.num_steps + 1)

    def _initial_state(self, batch: int) -> State:
        memory = self._states(batch)
        memory[:] = self._initial
        return self._state(memory, 0)

    def _states(self, batch: int) -> Bytes:
        """[batch, state_bytes]; every row is aligned, since the size of a state is a multiple of the alignment."""
        return aligned_zeros(batch * self._code.state_bytes).reshape(batch, -1)

    def _state(self, memory: Bytes, num_steps: int) -> State:
        return State(self.manifest.digest, num_steps, state_values(memory, self._code.states), memory)

    @contextmanager
    def _arena(self) -> Iterator[int]:
        arena = self._arenas.get()
        try:
            yield arena
        finally:
            self._arenas.put(arena)

    def _for_each(self, run_sample: Callable[[int, int], None], batch: int) -> None:
        """Run every sample in an arena; the C code runs without Python's lock."""

        def run(b: int) -> None:
            with self._arena() as arena:
                run_sample(b, arena)

        if self._threads == 1 or batch == 1:
            for b in range(batch):
                run(b)
            return
        with ThreadPoolExecutor(self._threads) as pool:
            list(pool.map(run, range(batch)))


def _rows(array: npt.NDArray[Any]) -> range:
    """Addresses of the rows of a contiguous array."""
    start, size = array.ctypes.data, array.strides[0]
    return range(start, start + size * len(array), size)
