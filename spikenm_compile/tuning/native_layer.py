"""A layer compiled for this machine, ready to be called on inputs that were recorded."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch.fx import GraphModule

from spikenm_compile.lowering.entry import build_objects, entry_names
from spikenm_compile.lowering.layout import WORD, Bits, Bytes
from spikenm_compile.lowering.program import Program, Space
from spikenm_compile.package import stored_tensors
from spikenm_compile.runtime.library import Library
from spikenm_compile.runtime.memory import Bytes as Memory
from spikenm_compile.runtime.memory import aligned_zeros
from spikenm_compile.targets.cpu import Cpu
from spikenm_compile.targets.linker import link_shared
from spikenm_compile.tuning.one_layer import plan_layer

Levels = npt.NDArray[np.float32]
"""[T, C, H, W]: what the layer reads of one sample."""


@dataclass(frozen=True, eq=False)
class CallParts:
    """What a caller outside of Python needs: the function `steps` and its memory (lowering.entry)."""

    steps: Callable[..., None]
    addresses: tuple[int, ...]
    """Of params, input, state, arena and output."""
    state: Memory
    initial: Memory
    """What `state` holds before a sample."""
    source: Memory
    """Where the layer reads its input."""
    layout: Bits | Bytes
    """How that input lies."""
    num_steps: int


class NativeLayer:
    """The kernels of one layer with memory of their own.

    Args:
        lowered: one layer (tuning.one_layer), whose `kernel` and `tile_width` say which kernel.
        cpu: this machine's.

    Raises:
        PassError: it has no such kernel.
        ToolError: it cannot be linked.
    """

    def __init__(self, lowered: GraphModule, cpu: Cpu) -> None:
        self.planned = planned = plan_layer(lowered, cpu.tile_width, instructions=cpu.instructions)
        program, self._num_steps = planned.program, lowered.meta["num_steps"]
        self._library = _load(program, cpu)
        params = aligned_zeros(program.sizes[Space.PARAMS])
        packed = packed_weights(program, stored_tensors(lowered))
        self._library.prepare(packed.ctypes.data, params.ctypes.data)
        self._state = aligned_zeros(program.sizes[Space.STATE])
        self._initial = initial_states(program)
        self.arena = arena = aligned_zeros(program.sizes[Space.ARENA] + WORD)
        nothing = aligned_zeros(WORD)
        self._source, first = planned.source, planned.source_place.offset
        self._input = arena[first : first + self._source.num_bytes(self._num_steps)]
        self._output = arena[planned.output_place.offset :][: planned.output_bytes]
        self._memory = (params, nothing, self._state, arena, nothing)
        self._addresses = tuple(m.ctypes.data for m in self._memory)

    @property
    def parts(self) -> CallParts:
        """For callers outside of Python."""
        state, initial = self._state, self._initial
        return CallParts(
            self._library.steps, self._addresses, state, initial, self._input, self._source, self._num_steps
        )

    def encode(self, levels: Levels) -> Memory:
        """Levels as they lie in the arena."""
        return encode(levels, self._source)

    def set_input(self, encoded: Memory) -> None:
        """Make a call ready: initial states, and an input from `encode`."""
        self._state[:] = self._initial
        self._input[:] = encoded

    def __call__(self) -> None:
        """All steps of one sample."""
        self._library.steps(*self._addresses, self._num_steps)

    def output(self) -> bytes:
        """What the last call wrote."""
        return self._output.tobytes()


def encode(levels: Levels, layout: Bits | Bytes) -> Memory:
    """Levels [T, C, H, W] in a layout, halo and all."""
    steps, channels, height, width = levels.shape
    halo = layout.halo
    depth = layout.words * WORD if isinstance(layout, Bits) else channels
    padded = np.zeros((steps, height + 2 * halo, width + 2 * halo, depth), np.int16)
    padded[:, halo : halo + height, halo : halo + width, :channels] = levels.transpose(0, 2, 3, 1)
    if isinstance(layout, Bits):
        planes = padded[..., None, :] > np.arange(layout.most)[:, None]
        return np.packbits(planes, axis=-1, bitorder="little").reshape(-1)
    return padded.astype(np.uint8).reshape(-1)


def _load(program: Program, cpu: Cpu) -> Library:
    with tempfile.TemporaryDirectory() as scratch:
        kernels, entries, _ = build_objects(program, cpu.tvm_target, Path(scratch))
        path = Path(scratch) / "layer.so"
        link_shared([kernels, entries], path, entry_names(program))
        return Library(path)


def initial_states(program: Program) -> Memory:
    """All states before the first step."""
    memory = aligned_zeros(program.sizes[Space.STATE])
    for state in program.states:
        size = 4 * int(np.prod(state["shape"]))
        memory[state["offset"] : state["offset"] + size].view(np.float32)[:] = state["init"]
    return memory


def packed_weights(program: Program, tensors: Mapping[str, npt.NDArray[Any]]) -> Memory:
    """The stored tensors as `prepare` reads them."""
    packed = aligned_zeros(program.sizes[Space.PACKED])
    for part in program.packed:
        stored = tensors[part["tensor"]].reshape(-1).view(np.uint8)
        packed[part["offset"] : part["offset"] + part["bytes"]] = stored
    return packed
