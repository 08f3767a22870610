"""Places of buffers in the arena: two that are in use at the same time never overlap, others may.

A buffer is in use from the first call that names it to the last. What is made before the steps and read in them, and
what is made in the steps and read after them, is in use to the end, because steps repeat.
"""

from __future__ import annotations

from dataclasses import dataclass

from spikenm_compile.graph import Region
from spikenm_compile.lowering.c.program import Buffer, Program

ALIGNMENT = 8
"""Bytes; enough for every type that the kernels use."""


@dataclass(frozen=True)
class Arena:
    """Where every buffer starts, and how many bytes there are."""

    offsets: dict[Buffer, int]
    num_bytes: int


@dataclass(frozen=True)
class _Lifetime:
    buffer: Buffer
    first: int
    last: int

    def overlaps(self, other: _Lifetime) -> bool:
        return self.first <= other.last and other.first <= self.last


def place_buffers(program: Program) -> Arena:
    """Largest first, each at the lowest place that is free for as long as it is in use."""
    placed: list[tuple[_Lifetime, int]] = []
    for lifetime in sorted(
        _lifetimes(program), key=lambda life: (-life.buffer.num_bytes, life.first, life.buffer.name)
    ):
        neighbours = sorted(
            (offset, offset + _padded(other.buffer.num_bytes)) for other, offset in placed if other.overlaps(lifetime)
        )
        placed.append((lifetime, _lowest_gap(neighbours, _padded(lifetime.buffer.num_bytes))))
    end = max((offset + _padded(lifetime.buffer.num_bytes) for lifetime, offset in placed), default=0)
    return Arena({lifetime.buffer: offset for lifetime, offset in placed}, end)


def _lowest_gap(taken: list[tuple[int, int]], size: int) -> int:
    start = 0
    for first, end in taken:
        if start + size <= first:
            break
        start = max(start, end)
    return start


def _lifetimes(program: Program) -> list[_Lifetime]:
    calls = [(region, call) for region in Region for call in program.calls[region]]
    regions: dict[Buffer, set[Region]] = {}
    spans: dict[Buffer, tuple[int, int]] = {}
    for index, (region, call) in enumerate(calls):
        for buffer in call.buffers:
            regions.setdefault(buffer, set()).add(region)
            spans[buffer] = (spans.get(buffer, (index, index))[0], index)
    end = len(calls)
    if program.frame is not None:
        # written before all calls, by whoever makes them
        readers = [index for index, (_, call) in enumerate(calls) if call.reads_input]
        regions[program.frame], spans[program.frame] = {Region.BEFORE}, (-1, max(readers, default=-1))
    return [
        _Lifetime(buffer, first, end if len(regions[buffer]) > 1 or buffer in program.kept else last)
        for buffer, (first, last) in spans.items()
    ]


def _padded(num_bytes: int) -> int:
    return -(-num_bytes // ALIGNMENT) * ALIGNMENT
