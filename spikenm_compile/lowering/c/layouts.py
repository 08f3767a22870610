"""How values lie in the memory of C code, one step at a time, channels innermost and without halo.

SPIKE_BITS      [H][W][⌈C/8⌉] bytes, channel c is bit c % 8 of byte c // 8
UNSIGNED_BYTES  [H][W][C] uint8_t            SIGNED_BYTES  [H][W][C] int8_t
FLOATS          [H][W][C] float              PLANES        [C][H][W] float, the user's order
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

FLOAT_BYTES = 4


class Kind(Enum):
    """Type and order of values; the value is the C constant."""

    BITS = "SPIKE_BITS"
    UNSIGNED = "UNSIGNED_BYTES"
    SIGNED = "SIGNED_BYTES"
    FLOATS = "FLOATS"
    PLANES = "PLANES"


BYTES = (Kind.UNSIGNED, Kind.SIGNED)


@dataclass(frozen=True)
class Layout:
    """Values of one step."""

    kind: Kind
    height: int
    width: int
    channels: int

    @property
    def pixels(self) -> int:
        """Height × width."""
        return self.height * self.width

    @property
    def count(self) -> int:
        """Number of values."""
        return self.pixels * self.channels

    @property
    def num_bytes(self) -> int:
        """Size."""
        if self.kind is Kind.BITS:
            return self.pixels * -(-self.channels // 8)
        return self.count * (1 if self.kind in BYTES else FLOAT_BYTES)

    def as_kind(self, kind: Kind) -> Layout:
        """The same size in another kind."""
        return Layout(kind, self.height, self.width, self.channels)

    def __str__(self) -> str:
        names = {Kind.BITS: "spikes", Kind.UNSIGNED: "uint8_t", Kind.SIGNED: "int8_t"}
        order = (
            (self.channels, self.height, self.width)
            if self.kind is Kind.PLANES
            else (self.height, self.width, self.channels)
        )
        return f"{names.get(self.kind, 'float')} [{']['.join(map(str, order))}]"


def bytes_of(*, signed: bool) -> Kind:
    """Whole numbers, one byte each."""
    return Kind.SIGNED if signed else Kind.UNSIGNED
