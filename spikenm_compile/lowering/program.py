"""A native program: buffers in five memories, and the kernel calls of each region.

Memories: `packed` stored weights (read once), `params` weight rows, scales and biases, `state` what lives from step to
step, `arena` everything else, and the user's `input` and `output`. Sizes and offsets are in bytes; every buffer starts
at a multiple of 64 so that no vector straddles a cache line.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from spikenm_compile.graph import Region

if TYPE_CHECKING:
    from tvm import tirx

ALIGNMENT = 64
"""In bytes."""


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


@dataclass(frozen=True)
class Choice:
    """Calls for few events and calls for many that give the same; a byte, written by a call before, says which run."""

    is_many: Place
    """Not zero: many."""
    few: tuple[Call, ...]
    many: tuple[Call, ...]
    steps: Steps

    @property
    def places(self) -> tuple[Place, ...]:
        """Of all of its calls, and of the byte."""
        return (self.is_many, *(place for call in (*self.few, *self.many) for place in call.places))


@dataclass(frozen=True)
class ArenaBuffer:
    """A buffer in the arena."""

    offset: int
    num_bytes: int
    zero_bytes: int = 0
    """Bytes of one time step that must be zero before its writers run, since they leave the halo alone; or 0."""


@dataclass
class Program:
    """What a native target compiles."""

    max_steps: int
    """Steps that one call of the `steps` entry may advance."""
    prefix: str = "spikenm"
    """How the names of all of its functions begin, so that two networks can be linked into one program."""
    functions: list[tirx.PrimFunc] = field(default_factory=list)
    prepare: list[Call] = field(default_factory=list)
    copies: list[tuple[Place, Place, int]] = field(default_factory=list)
    """(from `packed`, to `params`, float32 values) that preparation copies."""
    calls: dict[Region, list[Call | Choice]] = field(default_factory=lambda: {region: [] for region in Region})
    sizes: dict[Space, int] = field(default_factory=lambda: dict.fromkeys(Space, 0))
    buffers: list[ArenaBuffer] = field(default_factory=list)
    """All of the arena."""
    frame: int = 0
    """Where in the arena one step of the input can be put together from events; only after `add_frame`."""
    packed: list[dict[str, Any]] = field(default_factory=list)
    """Stored tensors in the order they are laid out in `packed`: tensor, offset, bytes."""
    states: list[dict[str, Any]] = field(default_factory=list)
    """name, offset, shape [H, W, C] and initial value of each state."""
    spikes: list[dict[str, Any]] = field(default_factory=list)
    """layer, offset, height, width, channels and halo of each spike train in the arena."""

    def allocate(self, space: Space, num_bytes: int, *, zero_bytes: int = 0) -> Place:
        """A new buffer; `zero_bytes` as in ArenaBuffer."""
        place = Place(space, self.sizes[space])
        self.sizes[space] += padded(num_bytes)
        if space is Space.ARENA:
            self.buffers.append(ArenaBuffer(place.offset, num_bytes, zero_bytes))
        return place

    def add_frame(self, num_bytes: int) -> None:
        """Reserve the input frame in the arena."""
        self.frame = self.allocate(Space.ARENA, num_bytes).offset


def padded(num_bytes: int) -> int:
    """Up to the next multiple of the alignment."""
    return -(-num_bytes // ALIGNMENT) * ALIGNMENT
