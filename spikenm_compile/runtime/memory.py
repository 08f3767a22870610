"""Memory that native code works in: buffers at 64-byte boundaries, and the bits and floats found in them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from spikenm_compile.artifact.code import WORD_BYTES, NativeCode, SpikesSpec, StateSpec

ALIGNMENT = 64
"""A cache line, and the widest vector load."""

Bytes = npt.NDArray[np.uint8]


def aligned_zeros(size: int) -> Bytes:
    """`size` zero bytes that begin at a multiple of 64; the memory behind them is there up to the next multiple."""
    memory = np.zeros(size + 2 * ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size]


def initial_memory(code: NativeCode) -> Bytes:
    """[state_bytes] state of one sample before the first step."""
    memory = aligned_zeros(code.state_bytes)
    for state in code.states:
        memory[state.offset : state.offset + state.bytes].view("<f4")[:] = state.init
    return memory


def state_values(memory: Bytes, states: tuple[StateSpec, ...]) -> dict[str, npt.NDArray[np.float32]]:
    """Views of the states [B, *shape] in the memory [B, state_bytes] of a batch."""
    return {s.name: _view(memory[:, s.offset : s.offset + s.bytes].view("<f4"), s) for s in states}


def _view(values: npt.NDArray[np.float32], spec: StateSpec) -> npt.NDArray[np.float32]:
    if not spec.is_planes:
        return values.reshape(-1, *spec.shape)
    *size, channels = spec.shape
    return np.moveaxis(values.reshape(-1, channels, *size), 1, -1)


def unpack_spikes(arena: Bytes, spec: SpikesSpec, num_steps: int) -> Bytes:
    """Spikes [num_steps, C, H, W], one byte each, from their bits in the arena."""
    height, width, words = spec.word_shape
    packed = arena[spec.offset : spec.offset + num_steps * spec.bytes_per_step]
    packed = packed.reshape(num_steps, height, width, words * WORD_BYTES)
    # Words are little endian, so channel c is bit c % 8 of byte c // 8.
    bits = np.unpackbits(packed, axis=-1, count=spec.channels, bitorder="little")
    inside = bits[:, spec.halo : height - spec.halo, spec.halo : width - spec.halo]
    return inside.transpose(0, 3, 1, 2)
