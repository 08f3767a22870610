"""A network as C: const arrays and tables, memory, and the calls of each region.

Buffers lie in the arena, which is reused: where they start is known when all calls are.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from spikenm_compile.graph import Region
from spikenm_compile.lowering.c.names import Names


@dataclass(frozen=True)
class Buffer:
    """Memory in the arena; `name` is the C constant that says where it starts."""

    name: str
    num_bytes: int
    holds: str
    """Type and shape, for the reader."""


@dataclass(frozen=True)
class Call:
    """A kernel, its arguments as C expressions, and the buffers that these name, with what it writes last."""

    function: str
    arguments: tuple[str, ...]
    buffers: tuple[Buffer, ...]
    layer: str
    """The user's layer, for the reader."""
    reads_input: bool = False
    """Whether the user's input is among the arguments."""


@dataclass(frozen=True)
class State:
    """A state of the network, float [H][W][C], at `offset` in the state memory."""

    name: str
    constant: str
    """The C constant that says where it starts."""
    offset: int
    shape: tuple[int, int, int]
    init: float


@dataclass(frozen=True)
class Spikes:
    """The spikes of a layer: bits in a buffer, written at each step."""

    layer: str
    buffer: Buffer
    height: int
    width: int
    channels: int


@dataclass(frozen=True)
class ConstArray:
    """Constant data."""

    name: str
    type: str
    values: npt.NDArray[Any]


@dataclass
class Program:
    """What is written as C."""

    prefix: str
    """Beginning of every name that other files see."""
    names: Names
    functions: list[str] = field(default_factory=list)
    """C text of generated functions."""
    tables: list[str] = field(default_factory=list)
    """C text of const tables."""
    arrays: list[ConstArray] = field(default_factory=list)
    calls: dict[Region, list[Call]] = field(default_factory=lambda: {region: [] for region in Region})
    kept: list[Buffer] = field(default_factory=list)
    """Buffers that are read from outside, after the calls."""
    states: list[State] = field(default_factory=list)
    state_bytes: int = 0
    spikes: list[Spikes] = field(default_factory=list)
    input_values: int = 0
    """float32 values by which the input advances at each step; 0 where it stays."""
    output_values: int = 0
    """float32 values by which the output advances at each step; 0 where it is written once."""
    frame: Buffer | None = None
    """Where one step of the input can be put together from events or bits."""
    used: set[str] = field(default_factory=set)
    """Kernel sources that calls and tables need."""

    def add_array(self, name: str, c_type: str, values: npt.ArrayLike, dtype: npt.DTypeLike) -> str:
        """New constant data; returns its name in C."""
        array = ConstArray(self.names.new(f"{self.prefix}{name}"), c_type, np.asarray(values, dtype).reshape(-1))
        self.arrays.append(array)
        return array.name
