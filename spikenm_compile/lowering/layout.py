"""How values lie in memory: channels innermost, time outermost, offsets in elements of the layout's dtype.

    Bits    spikes, one bit each, [t][y + halo][x + halo][⌈C/64⌉] uint64; channel c is bit c % 64 of word c // 64
            counts 0..k in unary, [t][y + halo][x + halo][k][⌈C/64⌉]: a bit of plane j is set where the count is above j
    Bytes   levels, [t][y + halo][x + halo][C] uint8 or int8
    Floats  currents and membrane potentials, [t][y][x][C] float32

The halo is zero in memory, so that padding costs no branch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from spikenm_compile.levels import Levels
from spikenm_compile.lowering.row_format import RowFormat
from spikenm_compile.lowering.tir import Expr, T, bytes_of

WORD = 64
"""Spikes in one word."""


@dataclass(frozen=True)
class Layout:
    """[t][height][width][channels] values."""

    height: int
    width: int
    channels: int
    halo: int = 0

    @property
    def dtype(self) -> str:
        """Type of an element in memory."""
        raise TypeError("a Layout is Bits, Bytes or Floats")

    @property
    def pixel(self) -> int:
        """Elements of one pixel."""
        return self.channels

    @property
    def row(self) -> int:
        """Elements of one row, halo included."""
        return (self.width + 2 * self.halo) * self.pixel

    @property
    def step(self) -> int:
        """Elements of one time step, halo included."""
        return (self.height + 2 * self.halo) * self.row

    @property
    def has_gaps(self) -> bool:
        """Whether there are elements that no writer writes and that readers take for zero."""
        return self.halo > 0

    def num_bytes(self, num_steps: int) -> int:
        """Size of `num_steps` time steps."""
        return num_steps * self.step * bytes_of(self.dtype)

    def at(self, t: Expr, y: Expr, x: Expr) -> Expr:
        """Index of the first element of a pixel; y and x count from the first pixel inside the halo."""
        return t * self.step + (y + self.halo) * self.row + (x + self.halo) * self.pixel

    def element(self, t: Expr, y: Expr, x: Expr, c: Expr) -> Expr:
        """Index of the element that holds one value."""
        return self.at(t, y, x) + c


@dataclass(frozen=True)
class Bits(Layout):
    """Spikes, or small counts: each is so many spikes of one neuron at one step."""

    most: int = 1
    """Largest count: the number of planes."""

    dtype: ClassVar[str] = "uint64"

    @property
    def words(self) -> int:
        """Words of one plane of a pixel."""
        return -(-self.channels // WORD)

    @property
    def pixel(self) -> int:
        """Words of one pixel."""
        return self.most * self.words

    @property
    def has_gaps(self) -> bool:
        """The halo, and the bits behind the last channel."""
        return self.halo > 0 or self.channels % WORD > 0

    def element(self, t: Expr, y: Expr, x: Expr, c: Expr) -> Expr:
        """Index of the word that holds one spike, of counts in the first plane."""
        return self.at(t, y, x) + c // WORD


@dataclass(frozen=True)
class Bytes(Layout):
    """Levels."""

    signed: bool = False

    @property
    def dtype(self) -> str:
        """int8 or uint8."""
        return "int8" if self.signed else "uint8"


def layout_of(levels: Levels, height: int, width: int, channels: int, halo: int) -> Bits | Bytes:
    """The layout of values of those levels: bits where these are no more than a byte has."""
    if levels.is_unary:
        return Bits(height, width, channels, halo, levels.high)
    return Bytes(height, width, channels, halo, levels.low < 0)


@dataclass(frozen=True)
class Floats(Layout):
    """Currents and membrane potentials; no halo."""

    dtype: ClassVar[str] = "float32"


@dataclass(frozen=True)
class Planes(Floats):
    """The user's order, [t][C][y][x] float32."""

    def element(self, t: Expr, y: Expr, x: Expr, c: Expr) -> Expr:
        """Index of one value."""
        return ((t * self.channels + c) * self.height + y) * self.width + x


@dataclass(frozen=True)
class Geometry:
    """Kernel, stride, padding and dilation of a convolution or pool, (vertical, horizontal)."""

    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)

    @property
    def taps(self) -> int:
        """Kernel height × width."""
        return self.kernel[0] * self.kernel[1]


@dataclass(frozen=True)
class Tile:
    """Output channels first .. first + width that one pass over the events accumulates."""

    first: Expr
    """First output channel; an expression of the loop variable where a loop runs over tiles."""
    width: int
    row: int
    """Bytes of one weight row, padded."""
    offset: Expr
    """First byte of the tile's rows."""


@dataclass(frozen=True)
class Rows:
    """Weight rows `[tile][ky][kx][channel][row]`: what one input event adds to all channels of a tile.

    Rows of pairs are `[tile][run][pair][row]`: inputs that lie one behind the other in memory are a run, and two of
    them share a row; the last is alone where their number is odd.
    """

    outputs: int
    taps: int
    """Kernel height × width."""
    channels: int
    """Input channels."""
    tile_width: int
    format: RowFormat = RowFormat.PLAIN
    run: int = 1
    """Inputs of a run, of rows of pairs."""

    @property
    def num_full(self) -> int:
        """Number of tiles of full width."""
        return self.outputs // self.tile_width

    @property
    def tail(self) -> int:
        """Width of the last, narrower tile; 0 if there is none."""
        return self.outputs % self.tile_width

    @property
    def num_rows(self) -> int:
        """Rows of one tile that hold weights; those that the format wants in addition stand behind them."""
        return self.num_runs * self.run_rows

    @property
    def num_runs(self) -> int:
        """Runs of one output."""
        return self.taps * self.channels // self.run

    @property
    def run_rows(self) -> int:
        """Rows of a run."""
        return -(-self.run // 2)

    def place(self, tap: Expr, channel: Expr) -> tuple[Expr, Expr]:
        """(row, half) of the weights of an input; half is 0 but for pairs."""
        number = tap * self.channels + channel
        if self.run == 1:
            return number, 0
        return number // self.run * self.run_rows + number % self.run // 2, number % self.run % 2

    def tile(self, index: Expr, width: int) -> Tile:
        """Tile number `index`, of full or tail width."""
        return Tile(index * self.tile_width, width, self.format.row_bytes(width), index * self._bytes(self.tile_width))

    def loop(self) -> Iterator[Tile]:
        """The tiles inside a TIR kernel: a loop over the full ones, then the tail."""
        if self.num_full:
            with T.serial(self.num_full) as index:
                yield self.tile(index, self.tile_width)
        if self.tail:
            yield self.tile(self.num_full, self.tail)

    def loop_over(self, count: int) -> Iterator[tuple[Tile, Expr]]:
        """The tiles of `count` such rows, which stand one behind the other, each with its number."""
        with T.serial(count) as number:
            for tile in self.loop():
                first, offset = number * self.outputs + tile.first, number * self.num_bytes + tile.offset
                yield Tile(first, tile.width, tile.row, offset), number

    @property
    def num_bytes(self) -> int:
        """Size of all tiles."""
        return self.num_full * self._bytes(self.tile_width) + (self._bytes(self.tail) if self.tail else 0)

    def _bytes(self, width: int) -> int:
        return (self.num_rows + self.format.spare_rows) * self.format.row_bytes(width)
