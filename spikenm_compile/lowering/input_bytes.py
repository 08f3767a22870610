"""Which inputs stand together in the index bytes of lookup tables.

Weights that any output may have of any input: byte b holds the channels 8·b .. 8·b + 7. Staggered weights: the channels
are parted into K = M/N classes, (c - ⌊c/M⌋) mod K, of which slab s reads class (s + t) mod K at tap t; each class has
bytes of its own.

Where in its byte a channel stands is of no importance, as long as the tables agree. A class is therefore put together
from whole bytes of channels, by rotating each, if need be, to where its members find their bits free:

    byte of a class  =  OR over some bytes of channels of  rotate(byte) & mask          1:8: 8 of them, none rotated

The order of the classes repeats after a `unit` of channels.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from spikenm_compile.costs.table_format import BYTE_INPUTS

ROTATIONS = (0, 4, 1, 2, 3, 5, 6, 7)
"""To the left, the cheapest first."""


@dataclass(frozen=True)
class Term:
    """Bits of a byte of channels that go into an index byte."""

    source: int
    """Number of the byte of channels."""
    rotation: int
    """To the left."""
    mask: int
    """Of the rotated byte."""


@dataclass(frozen=True)
class InputByte:
    """One index byte."""

    terms: tuple[Term, ...]
    channels: tuple[int, ...]
    """Of each bit, the lowest first; -1 where it has none."""


@dataclass(frozen=True)
class Unit:
    """Consecutive channels whose index bytes are alike for every unit but the last."""

    first_channel: int
    first_byte: int
    """Of each class."""
    repeats: int
    """Units of this kind, one behind the other."""
    size: int
    """Channels of one."""
    bytes: tuple[tuple[InputByte, ...], ...]
    """Of each class; channels and bytes of channels count from the unit's first."""

    @property
    def class_bytes(self) -> int:
        """Index bytes of a class."""
        return len(self.bytes[0])


@dataclass(frozen=True)
class InputBytes:
    """The index bytes of a layer's channels."""

    channels: int
    group: int = 1
    """M of a staggered pattern."""
    classes: int = 1
    """K of a staggered pattern; 1: one class of all channels."""

    @property
    def class_bytes(self) -> int:
        """Index bytes of one class."""
        return sum(unit.repeats * unit.class_bytes for unit in self.units())

    def class_of(self, channel: int) -> int:
        """The class of a channel."""
        return (channel - channel // self.group) % self.classes

    def units(self) -> Iterator[Unit]:
        """All channels: the units that are alike, then the rest."""
        size = BYTE_INPUTS
        if self.classes > 1:
            size = math.lcm(self.group * self.classes, BYTE_INPUTS * self.classes)
        repeats, rest = divmod(self.channels, size)
        done = 0
        for count, channels in ((repeats, size), (min(rest, 1), rest)):
            if count:
                unit = Unit(
                    self.channels // size * size * (channels != size), done, count, channels, self._bytes(channels)
                )
                done += count * unit.class_bytes
                yield unit

    def _bytes(self, size: int) -> tuple[tuple[InputByte, ...], ...]:
        members = [[c for c in range(size) if self.class_of(c) == k] for k in range(self.classes)]
        return tuple(arrange(channels) for channels in members)


def arrange(channels: Sequence[int]) -> tuple[InputByte, ...]:
    """Put ascending channels into as few index bytes as hold them."""
    bits = [[-1] * BYTE_INPUTS for _ in range(-(-len(channels) // BYTE_INPUTS))]
    masks: list[dict[tuple[int, int], int]] = [{} for _ in bits]
    for source, together in itertools.groupby(channels, lambda c: c // BYTE_INPUTS):
        members = list(together)
        for part in [members] if _place_of(members, bits) else [[c] for c in members]:
            found = _place_of(part, bits)
            assert found is not None, "a single channel fits wherever a bit is free"
            target, rotation = found
            for channel in part:
                bit = (channel + rotation) % BYTE_INPUTS
                bits[target][bit] = channel
                key = source, rotation
                masks[target][key] = masks[target].get(key, 0) | 1 << bit
    return tuple(
        InputByte(tuple(Term(source, rotation, mask) for (source, rotation), mask in terms.items()), tuple(of))
        for terms, of in zip(masks, bits, strict=True)
    )


def _place_of(channels: Sequence[int], bits: Sequence[Sequence[int]]) -> tuple[int, int] | None:
    """(index byte, rotation) where channels of one byte find their bits free."""
    for (target, taken), rotation in itertools.product(enumerate(bits), ROTATIONS):
        if all(taken[(c + rotation) % BYTE_INPUTS] < 0 for c in channels):
            return target, rotation
    return None
