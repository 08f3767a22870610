"""A native program: buffers in five memories, and the kernel calls of each region.

Memories: `packed` stored weights (read once), `params` weight rows, scales and biases, `state` what lives from step to
step, `arena` everything else, and the user's `input` and `output`. Sizes and offsets are in bytes; every buffer starts
at a multiple of 64 so that no vector straddles a cache line.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from tvm import tirx

from spikenm_compile.graph import Region

ALIGNMENT = 64


class Space(Enum):
    """A memory."""

    PACKED = "packed"
    PARAMS = "params"
    STATE = "state"
    ARENA = "arena"
    INPUT = "input"
    OUTPUT = "output"


@dataclass(frozen=True)
class Place:
    """Where a buffer starts."""

    space: Space
    offset: int = 0


class Steps(Enum):
    """What a call gets as its number of steps."""

    ONE = "one"
    ALL = "all"


@dataclass(frozen=True)
class Call:
    """A kernel and the buffers it is given, in the order of its parameters."""

    function: str
    places: tuple[Place, ...]
    steps: Steps


@dataclass
class Program:
    """What a native target compiles."""

    max_steps: int
    """Steps that one call of the `steps` entry may advance."""
    functions: list[tirx.PrimFunc] = field(default_factory=list)
    prepare: list[Call] = field(default_factory=list)
    copies: list[tuple[Place, Place, int]] = field(default_factory=list)
    """(from `packed`, to `params`, float32 values) that preparation copies."""
    calls: dict[Region, list[Call]] = field(default_factory=lambda: {region: [] for region in Region})
    sizes: dict[Space, int] = field(default_factory=lambda: dict.fromkeys(Space, 0))
    packed: list[dict[str, Any]] = field(default_factory=list)
    """Stored tensors in the order they are laid out in `packed`: tensor, offset, bytes."""
    states: list[dict[str, Any]] = field(default_factory=list)
    """name, offset, shape [H, W, C] and initial value of each state."""
    spikes: list[dict[str, Any]] = field(default_factory=list)
    """layer, offset, height, width, channels and halo of each spike train in the arena."""

    def allocate(self, space: Space, num_bytes: int) -> Place:
        """A new buffer."""
        place = Place(space, self.sizes[space])
        self.sizes[space] += -(-num_bytes // ALIGNMENT) * ALIGNMENT
        return place
