"""The memory of a C program as the public functions of model.c see it."""

from __future__ import annotations

import math

from spikenm_compile.lowering.c.layouts import FLOAT_BYTES
from spikenm_compile.lowering.c.memory import Arena
from spikenm_compile.lowering.c.program import Program
from spikenm_compile.lowering.c_api.interface import InitialValue, Memory, Neurons
from spikenm_compile.lowering.program import padded


def memory_of(program: Program, arena: Arena) -> Memory:
    """One step at a time, weights outside of the arena; only what is kept can be read. Blocks end aligned."""
    assert program.frame is not None
    kept = [spikes for spikes in program.spikes if spikes.buffer in program.kept]
    return Memory(
        max_steps=1,
        params_bytes=0,
        work_bytes=padded(arena.num_bytes),
        neuron_bytes=padded(program.state_bytes),
        frame_offset=arena.offsets[program.frame],
        initial=tuple(InitialValue(s.offset // FLOAT_BYTES, math.prod(s.shape), s.init) for s in program.states),
        neurons=tuple(
            Neurons(s.layer, s.channels, s.height, s.width, 0, arena.offsets[s.buffer], -(-s.channels // 8))
            for s in kept
        ),
    )
