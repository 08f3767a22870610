"""Let buffers of the arena that never hold something at the same time share memory.

Given: a program whose buffers all lie apart.
Result: the same calls on new places. A buffer lives from the first call that is given it to the last; what is computed
before the steps and read by them lives until the last step, since steps may be called again. Spikes of `keep` live to
the end and can be read after a call. A buffer whose writers leave gaps that must be zero is cleared first.

Buffers are placed from the largest to the smallest, each at the lowest offset that is free while it lives (greedy by
size; Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from tvm import tirx

from spikenm_compile.graph import Region
from spikenm_compile.lowering.kernels.clear import build_clear
from spikenm_compile.lowering.program import ArenaBuffer, Call, Choice, Place, Program, Space, padded


@dataclass(frozen=True)
class Lifetime:
    """First and last call, counted over all regions, that a buffer is needed in."""

    first: int
    last: int

    def meets(self, other: Lifetime) -> bool:
        """Whether both are needed at the same time."""
        return self.first <= other.last and other.first <= self.last


def share_arena(program: Program, keep: frozenset[str]) -> Program:
    """The program with a smaller arena.

    Args:
        program: planned, and not shared yet.
        keep: layers whose spikes can be read after a call.
    """
    lifetimes = _lifetimes(program, keep)
    offsets, size = _assign(program.buffers, lifetimes)
    functions = list(program.functions)
    calls = _cleared(program, functions)
    return replace(
        program,
        functions=functions,
        calls={region: [_moved(call, offsets) for call in calls[region]] for region in Region},
        buffers=[replace(buffer, offset=offsets[buffer.offset]) for buffer in program.buffers],
        frame=offsets[program.frame],
        sizes=program.sizes | {Space.ARENA: size},
        spikes=[s | {"offset": offsets[s["offset"]]} for s in program.spikes if s["layer"] in keep],
    )


def _lifetimes(program: Program, keep: frozenset[str]) -> dict[int, Lifetime]:
    """Offset of each buffer -> when it lives."""
    first, last = dict[int, int](), dict[int, int]()
    calls = [(region, call) for region in Region for call in program.calls[region]]
    num_before = len(program.calls[Region.BEFORE])
    end_of_steps = num_before + len(program.calls[Region.STEP])
    for number, (region, call) in enumerate(calls):
        for offset in _arena_offsets(call, program.frame):
            first.setdefault(offset, number)
            again = region is Region.STEP and first[offset] < num_before
            last[offset] = end_of_steps if again else number
    first[program.frame] = 0  # filled before the first call
    last.setdefault(program.frame, 0)
    last |= {spikes["offset"]: len(calls) for spikes in program.spikes if spikes["layer"] in keep}
    return {offset: Lifetime(first[offset], last[offset]) for offset in first}


def _arena_offsets(call: Call | Choice, frame: int) -> list[int]:
    """Buffers that a call is given; the frame may be what it is given as input."""
    own = [place.offset for place in call.places if place.space is Space.ARENA]
    return own + [frame for place in call.places if place.space is Space.INPUT]


def _assign(buffers: list[ArenaBuffer], lifetimes: Mapping[int, Lifetime]) -> tuple[dict[int, int], int]:
    """(offset of each buffer -> new offset, size of all)."""
    placed: list[tuple[int, int, Lifetime]] = []
    offsets: dict[int, int] = {}
    for buffer in sorted(buffers, key=lambda b: -b.num_bytes):
        lifetime, size = lifetimes[buffer.offset], padded(buffer.num_bytes)
        start = 0
        for taken, end, other in sorted(placed, key=lambda p: p[0]):
            if other.meets(lifetime) and taken < start + size and start < end:
                start = end
        offsets[buffer.offset] = start
        placed.append((start, start + size, lifetime))
    return offsets, max((end for _, end, _ in placed), default=0)


def _cleared(program: Program, functions: list[tirx.PrimFunc]) -> dict[Region, list[Call | Choice]]:
    """The calls, each buffer with gaps cleared in front of the call that is given it first."""
    with_gaps = {buffer.offset: buffer.zero_bytes for buffer in program.buffers if buffer.zero_bytes}
    names: dict[int, str] = {}
    result: dict[Region, list[Call | Choice]] = {region: [] for region in Region}
    for region in Region:
        for call in program.calls[region]:
            for place in call.places:
                if place.space is Space.ARENA and place.offset in with_gaps:
                    step_bytes = with_gaps.pop(place.offset)
                    if step_bytes not in names:
                        names[step_bytes] = f"{program.prefix}_{len(functions)}_clear"
                        functions += build_clear(names[step_bytes], step_bytes)
                    result[region].append(Call(names[step_bytes], (place,), call.steps))
            result[region].append(call)
    return result


def _moved(call: Call | Choice, offsets: Mapping[int, int]) -> Call | Choice:
    def of(place: Place) -> Place:
        return replace(place, offset=offsets[place.offset]) if place.space is Space.ARENA else place

    def moved(call: Call) -> Call:
        return replace(call, places=tuple(map(of, call.places)))

    if isinstance(call, Call):
        return moved(call)
    few, many = (tuple(map(moved, calls)) for calls in (call.few, call.many))
    return replace(call, is_many=of(call.is_many), few=few, many=many)
