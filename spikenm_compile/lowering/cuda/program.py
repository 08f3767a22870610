"""A CUDA program: kernels, their launches in order, and the memory that they work in.

Offsets are bytes. Those of the arena are for one sample: for a batch of B every buffer starts at B times its offset, so
that one plan serves every batch. No two buffers share memory: spikes are bits, and the halo of each must stay zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikenm_compile.lowering.cuda.generated import GeneratedKernel

ALIGNMENT = 256
"""As cudaMalloc aligns: no vector straddles two lines."""


class Space(Enum):
    """A memory; BATCH is the number of samples itself."""

    WEIGHTS = "weights"
    ARENA = "arena"
    INPUT = "input"
    OUTPUT = "output"
    BATCH = "batch"


@dataclass(frozen=True)
class Place:
    """Where a buffer starts."""

    space: Space
    offset: int = 0


@dataclass(frozen=True)
class Launch:
    """A kernel and its arguments, in the order of its parameters."""

    kernel: GeneratedKernel
    arguments: tuple[Place, ...]
    layer: str
    """What it computes, for people."""


@dataclass
class Program:
    """What the CUDA target compiles."""

    launches: list[Launch] = field(default_factory=list)
    weights: list[NDArray[np.uint8]] = field(default_factory=list)
    """Constants, each padded to the alignment."""
    arena_bytes: int = 0
    states: list[dict[str, Any]] = field(default_factory=list)
    """name, offset, shape [H, W, C] and initial value of each state."""
    spikes: list[dict[str, Any]] = field(default_factory=list)
    """layer, offset, height, width, channels and halo of each spike train."""

    @property
    def weights_bytes(self) -> int:
        """Size of all constants."""
        return sum(part.nbytes for part in self.weights)

    def allocate(self, num_bytes: int) -> Place:
        """A new buffer in the arena, of that size for one sample."""
        place = Place(Space.ARENA, self.arena_bytes)
        self.arena_bytes += _aligned(num_bytes)
        return place

    def constant(self, array: NDArray[Any]) -> Place:
        """A copy of an array among the constants."""
        place = Place(Space.WEIGHTS, self.weights_bytes)
        raw = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        self.weights.append(np.pad(raw, (0, _aligned(raw.nbytes) - raw.nbytes)))
        return place

    def kernels(self) -> list[GeneratedKernel]:
        """Each kernel once, in order of its first launch."""
        return list({launch.kernel.name: launch.kernel for launch in self.launches}.values())

    def source(self) -> str:
        """All kernels as one file of CUDA C++, which says what each is for."""
        users: dict[str, list[str]] = {}
        for launch in self.launches:
            users.setdefault(launch.kernel.name, []).append(launch.layer)
        table = [f"// {k.name}: {', '.join(users[k.name])}. {k.description}".rstrip() for k in self.kernels()]
        head = ["// Compile with -fmad=false and without fast-math: kernels round as their reference does.", *table]
        return "\n".join(head) + "\n" + merge_sources([kernel.source for kernel in self.kernels()])


def merge_sources(sources: list[str]) -> str:
    """Several files of TVM as one: what they define in common stands once."""
    seen: set[str] = set()
    merged = []
    for source in sources:
        for part in _parts(source):
            if part not in seen:
                seen.add(part)
                merged.append(part)
    return "\n".join(merged) + "\n"


def _parts(source: str) -> Iterator[str]:
    """Functions, preprocessor blocks and single lines at the top of a file."""
    lines: list[str] = []
    depth = 0
    for line in source.splitlines():
        word = line.lstrip()
        if not lines and not word:
            continue
        lines.append(line)
        depth += line.count("{") - line.count("}") + word.startswith("#if") - word.startswith("#endif")
        if depth == 0 and not line.endswith("\\"):
            yield "\n".join(lines)
            lines = []


def _aligned(num_bytes: int) -> int:
    return -(-num_bytes // ALIGNMENT) * ALIGNMENT


def unnamed(spec: Any) -> Any:
    """A spec without its name: equal specs share a kernel."""
    return replace(spec, name="")
