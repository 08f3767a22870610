"""The memory of a network on the GPU for one batch size, and its launches."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from spikenm_compile.artifact.code import StateSpec
from spikenm_compile.artifact.cuda_code import (
    ALIGNMENT,
    ARENA,
    BATCH,
    INPUT,
    OUTPUT,
    WEIGHTS,
    WEIGHTS_TENSOR,
    WORD_BITS,
    CudaCode,
    Launch,
    Place,
    SpikeWords,
)
from spikenm_compile.artifact.directory import Artifact
from spikenm_compile.artifact.tensors import read_tensors
from spikenm_compile.errors import ArtifactError
from spikenm_compile.runtime.cuda_driver import Device, Event, Graph, Kernels, Memory, Stream
from spikenm_compile.runtime.model import Floats

RUNS_UNDER_WAY = 2
"""Runs that the host may be ahead of the GPU."""


class Session:
    """A network ready to run on `batch` samples. All calls need the model's lock and its GPU made current.

    What neither reads the input nor writes the output is recorded once, as a CUDA graph; the launches before and behind
    it get the user's pointers.
    """

    def __init__(
        self, device: Device, stream: Stream, kernels: Kernels, code: CudaCode, weights: Memory, batch: int
    ) -> None:
        self._device, self._stream, self._kernels, self._code = device, stream, kernels, code
        self._batch = batch
        self._bases = {WEIGHTS: weights.pointer}
        self._arena = Memory(device, code.arena_bytes * batch)
        self._arena.fill(0, stream)
        first, last = _inner(code.launches)
        self._before, self._inside, self._behind = (
            code.launches[:first],
            code.launches[first:last],
            code.launches[last:],
        )
        early = {place.offset for launch in self._before for place in launch.arguments if place.space == ARENA}
        self._early_fills = _fills([state for state in code.states if state.offset in early])
        self._fills = _fills([state for state in code.states if state.offset not in early])
        self._graph: Graph = stream.record(device, self._start_inside)
        self._under_way: deque[tuple[Event, object]] = deque()

    def start(self, input_pointer: int, output_pointer: int, owner: object = None) -> None:
        """Run without waiting; `owner` lives until the input has been read."""
        self._fill(self._early_fills)
        self._launch(self._before, input_pointer, output_pointer)
        self._graph.launch(self._stream)
        self._launch(self._behind, input_pointer, output_pointer)
        done = Event(self._device)
        done.record(self._stream)
        self._under_way.append((done, owner))
        if len(self._under_way) > RUNS_UNDER_WAY:
            self._under_way.popleft()[0].synchronize()

    def run_host(self, x: Floats, output: Floats) -> Floats:
        """Run on an input in the memory of the host and wait; `output` is filled and returned."""
        source, target = Memory(self._device, x.nbytes), Memory(self._device, output.nbytes)
        source.write(x, self._stream)
        self.start(source.pointer, target.pointer)
        target.read(output, self._stream)
        self._stream.synchronize()
        return output

    def measure(self, x: Floats, output: Floats, runs: int) -> list[float]:
        """Microseconds of the GPU for each run on an input that lies there; `output` gets the last result."""
        source, target = Memory(self._device, x.nbytes), Memory(self._device, output.nbytes)
        source.write(x, self._stream)
        marks = [Event(self._device) for _ in range(runs + 1)]
        self.start(source.pointer, target.pointer)  # warms up
        marks[0].record(self._stream)
        for mark in marks[1:]:
            self.start(source.pointer, target.pointer)
            mark.record(self._stream)
        target.read(output, self._stream)
        self._stream.synchronize()
        return [after.microseconds_since(before) for before, after in pairwise(marks)]

    def measure_launches(self, runs: int) -> list[tuple[str, str, float]]:
        """(layer, kernel's description, microseconds) of each launch of the graph, each repeated `runs` times."""
        before, behind = Event(self._device), Event(self._device)
        rows = []
        for launch in self._inside:
            self._launch((launch,), 0, 0)
            before.record(self._stream)
            self._launch((launch,) * runs, 0, 0)
            behind.record(self._stream)
            self._stream.synchronize()
            rows.append((launch.layer, launch.description, behind.microseconds_since(before) / runs))
        return rows

    def states(self) -> dict[str, npt.NDArray[np.float32]]:
        """[B, C, H, W] or [B, C] states after the last step."""
        return {state.name: self._read_state(state) for state in self._code.states}

    def spikes(self, num_steps: int) -> dict[str, npt.NDArray[np.uint8]]:
        """[T, B, C, H, W] spikes of the last run."""
        return {spec.layer: self._read_spikes(spec, num_steps) for spec in self._code.spikes}

    def _launch(self, launches: tuple[Launch, ...], input_pointer: int, output_pointer: int) -> None:
        bases = {**self._bases, INPUT: input_pointer, OUTPUT: output_pointer}
        for launch in launches:
            values = [self._value(place, bases) for place in launch.arguments]
            grid = launch.grid(self._batch)
            self._kernels.launch(launch.kernel, grid, launch.block, launch.shared_bytes, values, self._stream.handle)

    def _value(self, place: Place, bases: dict[str, int]) -> int:
        if place.space == BATCH:
            return self._batch
        if place.space == ARENA:
            return self._arena.pointer + place.offset * self._batch
        return bases[place.space] + place.offset

    def _start_inside(self) -> None:
        self._fill(self._fills)
        self._launch(self._inside, 0, 0)

    def _fill(self, fills: list[Fill]) -> None:
        for fill in fills:
            word, size = int(np.float32(fill.value).view(np.uint32)), fill.bytes * self._batch
            self._arena.fill(word, self._stream, fill.offset * self._batch, size)

    def _read_state(self, state: StateSpec) -> npt.NDArray[np.float32]:
        values = np.empty((self._batch, *state.shape), np.float32)
        self._read(values, state.offset)
        return values

    def _read_spikes(self, spec: SpikeWords, num_steps: int) -> npt.NDArray[np.uint8]:
        words = np.empty((self._batch, *spec.word_shape(num_steps)), np.uint32)
        self._read(words, spec.offset)
        return unpack_words(words, spec)

    def _read(self, array: npt.NDArray[Any], offset: int) -> None:
        self._arena.read(array, self._stream, offset * self._batch)
        self._stream.synchronize()


@dataclass(frozen=True, slots=True)
class Fill:
    """Float32 numbers that a part of the arena is set to before a run; sizes are those of one sample."""

    offset: int
    bytes: int
    value: float


def _fills(states: list[StateSpec]) -> list[Fill]:
    """First values of the states; neighbours of one value are filled at once, with the gap between them."""
    fills: list[Fill] = []
    for state in sorted(states, key=lambda state: state.offset):
        last = fills[-1] if fills else None
        if last and last.value == state.init and state.offset - (last.offset + last.bytes) < ALIGNMENT:
            fills[-1] = Fill(last.offset, state.offset + state.bytes - last.offset, last.value)
        else:
            fills.append(Fill(state.offset, state.bytes, state.init))
    return fills


def unpack_words(words: npt.NDArray[np.uint32], spec: SpikeWords) -> npt.NDArray[np.uint8]:
    """[B, height, width, T, words], halo included, to spikes [T, B, C, H, W]: channel 4s + j is bit 8j + s."""
    inside = words[:, spec.halo : spec.halo + spec.height, spec.halo : spec.halo + spec.width]
    channel = np.arange(WORD_BITS, dtype=np.uint32)
    bits = inside[..., None] >> (channel % 4 * 8 + channel // 4) & 1
    spikes = bits.reshape(*inside.shape[:-1], -1)[..., : spec.channels]
    return np.ascontiguousarray(spikes.transpose(3, 0, 4, 1, 2).astype(np.uint8))


def read_weights(artifact: Artifact, code: CudaCode, device: Device, stream: Stream) -> Memory:
    """The constants, on the GPU.

    Raises:
        ArtifactError: they are not those that the code needs.
    """
    tensors = read_tensors(artifact.path / code.weights)
    found = tensors[WEIGHTS_TENSOR].nbytes if WEIGHTS_TENSOR in tensors else "no"
    if found != code.weights_bytes:
        raise ArtifactError(
            f"{artifact.path / code.weights} holds {found} bytes of tensor '{WEIGHTS_TENSOR}'; its code needs "
            f"{code.weights_bytes}; build the artifact again"
        )
    memory = Memory(device, code.weights_bytes)
    memory.write(np.ascontiguousarray(tensors[WEIGHTS_TENSOR]), stream)
    stream.synchronize()
    return memory


def _inner(launches: tuple[Launch, ...]) -> tuple[int, int]:
    """First and behind-last launch of the longest middle part that touches neither input nor output."""
    outer = [i for i, launch in enumerate(launches) if {p.space for p in launch.arguments} & {INPUT, OUTPUT}]
    gaps = list(zip([-1, *outer], [*outer, len(launches)], strict=True))
    first, last = max(gaps, key=lambda gap: gap[1] - gap[0])
    return first + 1, last
