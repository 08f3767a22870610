"""Run an artifact whose code is a shared library, one sample at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue

import numpy as np

from spikenm_compile.artifact.code import WEIGHTS_NAME, NativeCode, read_native_code
from spikenm_compile.artifact.directory import Artifact
from spikenm_compile.artifact.manifest import Manifest
from spikenm_compile.artifact.tensors import read_tensors
from spikenm_compile.errors import ArtifactError
from spikenm_compile.runtime.library import Library
from spikenm_compile.runtime.machine import check_machine
from spikenm_compile.runtime.memory import Bytes, aligned_zeros, initial_memory, state_values, unpack_spikes
from spikenm_compile.runtime.model import Floats, Model, State, Trace


class NativeModel(Model):
    """A native artifact, loaded.

    Args:
        artifact: a checked artifact whose code is of kind native.
        threads: samples of a batch that run at a time.

    Raises:
        ArtifactError: the code section or the weights do not fit together.
        TargetError: this machine cannot run it.
    """

    def __init__(self, artifact: Artifact, threads: int = 1) -> None:
        super().__init__(artifact)
        self._code = read_native_code(artifact)
        check_machine(artifact.manifest.name, self._code.machine, self._code.cpu_features)
        self._library = Library(artifact.path / self._code.library)
        self._params = self._prepare(artifact)
        self._initial = initial_memory(self._code)
        self._threads = threads
        # Taking a workspace out of the queue is also the lock: no two threads work in the same memory.
        self._workspaces: SimpleQueue[_Workspace] = SimpleQueue()
        for _ in range(threads):
            self._workspaces.put(_Workspace(self._code, self.manifest, self._library, self._params))

    def _prepare(self, artifact: Artifact) -> Bytes:
        """Expand the packed weights."""
        params = aligned_zeros(self._code.params_bytes)
        packed = _packed_weights(artifact, self._code)
        self._library.prepare(packed.ctypes.data, params.ctypes.data)
        return params

    def _sequence(self, x: Floats, num_steps: int, *, record: bool) -> Trace:
        input_spec, output_spec, code = self.manifest.input, self.manifest.output, self._code
        samples = np.ascontiguousarray(x.swapaxes(0, 1)) if input_spec.per_step else x
        batch = len(samples)
        outputs = np.empty((batch, num_steps if output_spec.per_step else 1, *output_spec.shape), np.float32)
        memory = np.empty((batch, code.state_bytes), np.uint8)
        layers = code.spikes if record else ()
        spikes = {s.layer: np.empty((num_steps, batch, s.channels, s.height, s.width), np.uint8) for s in layers}

        def run_sample(b: int) -> None:
            with self._workspace() as workspace:
                workspace.start(self._initial, samples[b])
                for start in range(0, num_steps, code.max_steps):
                    stop = min(start + code.max_steps, num_steps)
                    workspace.advance(samples[b], outputs[b], start, stop)
                    for spec in layers:
                        spikes[spec.layer][start:stop, b] = unpack_spikes(workspace.arena, spec, stop - start)
                workspace.finish(outputs[b], num_steps)
                memory[b] = workspace.state

        self._for_each(run_sample, batch)
        output = np.ascontiguousarray(outputs.swapaxes(0, 1)) if output_spec.per_step else outputs[:, 0]
        return Trace(output, state_values(memory, code.states), spikes)

    def _step(self, x_t: Floats, state: State) -> tuple[Floats, State]:
        # With a leading dimension for the single step of each sample.
        samples = x_t[:, None] if self.manifest.input.per_step else x_t
        outputs = np.empty((len(samples), 1, *self.manifest.output.shape), np.float32)
        memory = np.empty_like(state.memory)

        def run_sample(b: int) -> None:
            with self._workspace() as workspace:
                workspace.start(state.memory[b], samples[b])
                workspace.advance(samples[b], outputs[b], 0, 1)
                workspace.finish(outputs[b], state.num_steps + 1)
                memory[b] = workspace.state

        self._for_each(run_sample, len(samples))
        return outputs[:, 0], self._state(memory, state.num_steps + 1)

    def _initial_state(self, batch: int) -> State:
        return self._state(np.repeat(self._initial[None], batch, axis=0), 0)

    def _state(self, memory: Bytes, num_steps: int) -> State:
        return State(self.manifest.digest, num_steps, state_values(memory, self._code.states), memory)

    @contextmanager
    def _workspace(self) -> Iterator[_Workspace]:
        workspace = self._workspaces.get()
        try:
            yield workspace
        finally:
            self._workspaces.put(workspace)

    def _for_each(self, run_sample: Callable[[int], None], batch: int) -> None:
        """Run every sample; the C code runs without Python's lock."""
        if self._threads == 1 or batch == 1:
            for b in range(batch):
                run_sample(b)
            return
        with ThreadPoolExecutor(self._threads) as pool:
            list(pool.map(run_sample, range(batch)))


class _Workspace:
    """The memory of one sample in progress, and the calls that work in it.

    The arena is zero when it is first used and keeps its content from call to call.
    """

    def __init__(self, code: NativeCode, manifest: Manifest, library: Library, params: Bytes) -> None:
        self._per_step_input, self._per_step_output = manifest.input.per_step, manifest.output.per_step
        self._library = library
        self.state = aligned_zeros(code.state_bytes)
        self.arena = aligned_zeros(code.arena_bytes)
        self._input = _float_buffer(manifest.input.shape, code.max_steps if self._per_step_input else 1)
        self._output = _float_buffer(manifest.output.shape, code.max_steps if self._per_step_output else 1)
        buffers = (params, self._input, self.state, self.arena, self._output)
        self._addresses = tuple(buffer.ctypes.data for buffer in buffers)

    def start(self, state: Bytes, sample: Floats) -> None:
        """Begin from `state` [state_bytes] with `sample`, [...] or [T, ...] where the input is per step."""
        self.state[:] = state
        if not self._per_step_input:
            self._input[0] = sample
        self._library.before(*self._addresses, 1)

    def advance(self, sample: Floats, output: Floats, start: int, stop: int) -> None:
        """Take steps `start` to `stop`; write their outputs into `output` [T, ...] if it is per step."""
        count = stop - start
        if self._per_step_input:
            self._input[:count] = sample[start:stop]
        self._library.steps(*self._addresses, count)
        if self._per_step_output:
            output[start:stop] = self._output[:count]

    def finish(self, output: Floats, num_steps: int) -> None:
        """Write the readout over all `num_steps` steps into `output` [1, ...] if it is not per step."""
        if not self._per_step_output:
            self._library.after(*self._addresses, num_steps)
            output[0] = self._output[0]


def _float_buffer(shape: tuple[int, ...], steps: int) -> Floats:
    """Aligned float32 [steps, *shape]."""
    return aligned_zeros(steps * math.prod(shape) * 4).view(np.float32).reshape(steps, *shape)


def _packed_weights(artifact: Artifact, code: NativeCode) -> Bytes:
    """The buffer that `spikenm_prepare` reads, filled from the artifact's tensors."""
    packed = aligned_zeros(code.packed_bytes)
    if not code.packed:
        return packed
    if WEIGHTS_NAME not in artifact.manifest.files:
        raise ArtifactError(f"artifact '{artifact.path}' lacks {WEIGHTS_NAME}, which its code needs; build it again")
    tensors = read_tensors(artifact.path / WEIGHTS_NAME)
    for part in code.packed:
        found = tensors[part.tensor].nbytes if part.tensor in tensors else "no"
        if found != part.bytes:
            raise ArtifactError(
                f"{artifact.path / WEIGHTS_NAME} holds {found} bytes of tensor '{part.tensor}'; "
                f"its code needs {part.bytes}; build the artifact again"
            )
        packed[part.offset : part.offset + part.bytes] = tensors[part.tensor].reshape(-1).view(np.uint8)
    return packed
