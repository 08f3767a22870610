"""How values lie in the memory of a GPU: samples outermost, then pixels, then time steps, channels innermost.

    SpikeWords  spikes, [B][y + halo][x + halo][t][⌈C/32⌉] uint32; channel 4s + j of a word's 32 is its bit 8j + s
    LevelBytes  levels, [B][y + halo][x + halo][t][⌈C/32⌉·32] uint8 or int8
    Reals       currents and membrane potentials, [B][y][x][t][C] float32
    Planes      the user's order, [t][B][C][y][x] float32

`(word >> s) & 0x01010101` is then four consecutive channels, one in each byte: what a tensor core multiplies with one
2:4 group. The halo is zero in memory, so that padding costs no branch; kernels never write it. Channels beyond C are
zero in spikes; in levels they may hold anything, since they meet weights that are zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

UNIT = 32
"""Channels that are padded to and that one word of spikes holds."""

Index = Any
"""An int, or an expression of TIR."""


@dataclass(frozen=True)
class Tensor:
    """[B][height][width][steps][channels] values."""

    height: int
    width: int
    channels: int
    steps: int = 1
    """T; 1 also of what does not change with time."""
    halo: int = 0

    dtype: ClassVar[str] = "float32"
    """Type of an element in memory."""

    @property
    def units(self) -> int:
        """⌈C/32⌉."""
        return -(-self.channels // UNIT)

    @property
    def step(self) -> int:
        """Elements of one time step of one pixel."""
        return self.channels

    @property
    def pixel(self) -> int:
        """Elements of one pixel, all its steps."""
        return self.steps * self.step

    @property
    def row(self) -> int:
        """Elements of one row, halo included."""
        return (self.width + 2 * self.halo) * self.pixel

    @property
    def sample(self) -> int:
        """Elements of one sample, halo included."""
        return (self.height + 2 * self.halo) * self.row

    @property
    def shape(self) -> tuple[int, ...]:
        """Dimensions behind B."""
        return self.height + 2 * self.halo, self.width + 2 * self.halo, self.steps, self.step

    def num_bytes(self, batch: int) -> int:
        """Size of that many samples."""
        return batch * self.sample * np.dtype(self.dtype).itemsize

    def at(self, b: Index, y: Index, x: Index, t: Index) -> Index:
        """Index of the first element of one step of a pixel; y and x count from the first pixel inside the halo."""
        inside = (y + self.halo) * self.row + (x + self.halo) * self.pixel
        return b * self.sample + inside + self.time(t) * self.step

    def time(self, t: Index) -> Index:
        """Step to read at time t."""
        return t if self.steps > 1 else 0


@dataclass(frozen=True)
class SpikeWords(Tensor):
    """Spikes."""

    dtype: ClassVar[str] = "uint32"

    @property
    def step(self) -> int:
        """Words."""
        return self.units


@dataclass(frozen=True)
class LevelBytes(Tensor):
    """Levels."""

    signed: bool = False

    @property
    def dtype(self) -> str:  # type: ignore[override]
        """int8 or uint8."""
        return "int8" if self.signed else "uint8"

    @property
    def step(self) -> int:
        """Bytes."""
        return self.units * UNIT


@dataclass(frozen=True)
class Reals(Tensor):
    """Currents and membrane potentials; no halo."""


@dataclass(frozen=True)
class Planes(Tensor):
    """What users give and get."""

    def plane(self, batch: Index, b: Index, t: Index, c: Index) -> Index:
        """Index of the first value of one channel of one step of a sample."""
        return ((self.time(t) * batch + b) * self.channels + c) * (self.height * self.width)


def bit_of(channel: Index) -> Index:
    """Bit of a word that holds a channel, both 0..31."""
    return channel % 4 * 8 + channel // 4


def channel_of(bit: Index) -> Index:
    """Channel that a bit of a word holds, both 0..31."""
    return bit % 8 * 4 + bit // 8


def encode(values: NDArray[Any], tensor: SpikeWords | LevelBytes | Reals) -> NDArray[Any]:
    """Lay [T, B, C, H, W] whole numbers or reals out as `tensor`: [B, *tensor.shape]."""
    inside = np.ascontiguousarray(values.transpose(1, 3, 4, 0, 2))
    if not isinstance(tensor, Reals):
        inside = np.pad(inside, [(0, 0)] * 4 + [(0, tensor.units * UNIT - tensor.channels)])
    if isinstance(tensor, SpikeWords):
        inside = _words(inside)
    edge = (tensor.halo, tensor.halo)
    return np.pad(inside.astype(tensor.dtype), [(0, 0), edge, edge, (0, 0), (0, 0)])


def decode(stored: NDArray[Any], tensor: SpikeWords | LevelBytes | Reals) -> NDArray[np.float32]:
    """[B, *tensor.shape] to [T, B, C, H, W] float32."""
    stored = stored.reshape(-1, *tensor.shape)
    inside = stored[:, tensor.halo : tensor.halo + tensor.height, tensor.halo : tensor.halo + tensor.width]
    if isinstance(tensor, SpikeWords):
        bits = np.array([bit_of(c) for c in range(UNIT)], np.uint32)
        inside = (inside[..., None] >> bits & 1).reshape(*inside.shape[:-1], -1)
    return inside[..., : tensor.channels].transpose(3, 0, 4, 1, 2).astype(np.float32)


def _words(spikes: NDArray[Any]) -> NDArray[np.uint32]:
    """[..., 32·units] spikes to [..., units] words."""
    weights = np.array([1 << bit_of(c) for c in range(UNIT)], np.uint32)
    grouped = spikes.reshape(*spikes.shape[:-1], -1, UNIT) != 0
    words: NDArray[np.uint32] = (grouped * weights).sum(-1, dtype=np.uint32)
    return words
