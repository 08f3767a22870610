"""Spikes to the indices of lookup tables: planes of bytes over output positions, once per layer input.

    bytes[b][t][y][x]                  byte b of the spikes of each pixel, halo and all
    mixed[class][b][t][y][x]           index byte b of a class (lowering.input_bytes); bytes, where there is one class
    planes[class][b][tap][t][oy][ox]   that of the pixel which the tap of an output reads

The last has no halo and no stride, so that consecutive outputs read consecutive bytes, whatever the geometry. Each of
its steps is filled up to whole groups of positions (lowering.byte_shuffle).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tvm import tirx

from spikenm_compile.costs.table_format import BYTE_INPUTS
from spikenm_compile.lowering import tir
from spikenm_compile.lowering.byte_shuffle import TABLE
from spikenm_compile.lowering.input_bytes import InputBytes, Term, Unit
from spikenm_compile.lowering.layout import WORD, Bits, Geometry
from spikenm_compile.lowering.tir import Buffer, Expr, T

COPIED = 64
"""Bytes that are worked on at once; readers of a plane may read so many behind its end."""
PIXELS = 8
"""Pixels whose words are taken apart at once."""


@dataclass(frozen=True)
class IndexPlanes:
    """Where the index bytes of a layer's input lie."""

    spikes: Bits
    inputs: InputBytes
    geometry: Geometry
    height: int
    """Of the output."""
    width: int
    max_steps: int

    @property
    def positions(self) -> int:
        """Outputs of one channel and step."""
        return self.height * self.width

    @property
    def pitch(self) -> int:
        """Bytes of one step of a plane, in whole groups."""
        return -(-self.positions // TABLE) * TABLE

    @property
    def stride(self) -> int:
        """Bytes from plane to plane."""
        return self.max_steps * self.pitch

    @property
    def columns(self) -> int:
        """Of the input, halo included."""
        return self.spikes.width + 2 * self.spikes.halo

    @property
    def image(self) -> int:
        """Pixels of one step, halo included."""
        return (self.spikes.height + 2 * self.spikes.halo) * self.columns

    @property
    def image_stride(self) -> int:
        """Bytes from plane to plane before they are copied for the taps, in whole vectors."""
        return -(-self.max_steps * self.image // COPIED) * COPIED

    @property
    def byte_planes(self) -> int:
        """Bytes of a pixel."""
        return -(-self.spikes.channels // BYTE_INPUTS)

    @property
    def mixed_planes(self) -> int:
        """Index bytes of a pixel, all classes together."""
        return self.inputs.classes * self.inputs.class_bytes

    @property
    def scratch_bytes(self) -> tuple[int, int]:
        """Sizes of `bytes` and `mixed`."""
        mixed = self.mixed_planes if self.inputs.classes > 1 else 0
        over = self.geometry.stride[1] * COPIED
        return self.byte_planes * self.image_stride + over, mixed * self.image_stride + over

    @property
    def num_bytes(self) -> int:
        """Size of `planes`, and what readers may read behind the last."""
        return self.mixed_planes * self.geometry.taps * self.stride + COPIED

    def plane(self, number: Expr, byte: Expr, tap: Expr) -> Expr:
        """Index of the first byte of the plane of a class."""
        return ((number * self.inputs.class_bytes + byte) * self.geometry.taps + tap) * self.stride


def build_index_planes(name: str, planes: IndexPlanes) -> list[tirx.PrimFunc]:
    """Kernel `(spikes, bytes, mixed, planes, num_steps)`."""
    functions = list[tirx.PrimFunc]()
    params = [tir.Param("spikes", "uint64"), *(tir.Param(n, "uint8") for n in ("bytes", "mixed", "planes"))]
    with tir.kernel(name, params, functions) as ((words, taken, mixed, out), num_steps):
        _take_apart(planes, words, taken, num_steps)
        if planes.inputs.classes > 1:
            for unit in planes.inputs.units():
                _mix(planes, unit, taken, mixed, num_steps)
        _copy(planes, mixed if planes.inputs.classes > 1 else taken, out, num_steps)
    return functions


def _take_apart(planes: IndexPlanes, words: Buffer, out: Buffer, num_steps: Expr) -> None:
    """Words of pixels to one plane for each byte."""
    pixel = planes.spikes.pixel
    with T.serial(num_steps) as t:
        for first, count in pieces(planes.image, PIXELS):
            at = t * planes.image + first
            for number in range(pixel):
                word = words[tir.strided(at * pixel + number, pixel, count)]
                for byte in range(min(BYTE_INPUTS, planes.byte_planes - number * BYTE_INPUTS)):
                    shifted = T.shift_right(word, tir.constant("uint64", count, byte * WORD // BYTE_INPUTS))
                    target = (number * BYTE_INPUTS + byte) * planes.image_stride + at
                    tir.store(out, tir.lanes(target, count), tir.cast("uint8", count, shifted))


def _mix(planes: IndexPlanes, unit: Unit, taken: Buffer, out: Buffer, num_steps: Expr) -> None:
    """Bytes of channels to index bytes of classes."""
    stride = planes.image_stride
    with T.serial(unit.repeats) as repeat, T.serial((num_steps * planes.image + (COPIED - 1)) // COPIED) as chunk:
        source = (unit.first_channel // BYTE_INPUTS + repeat * (unit.size // BYTE_INPUTS)) * stride + chunk * COPIED
        for number, of_class in enumerate(unit.bytes):
            for byte, made in enumerate(of_class):
                target = number * planes.inputs.class_bytes + unit.first_byte + repeat * unit.class_bytes + byte
                parts = [_part(taken, source + term.source * stride, term) for term in made.terms]
                value = parts[0]
                for part in parts[1:]:
                    value = T.bitwise_or(value, part)
                tir.store(out, tir.lanes(target * stride + chunk * COPIED, COPIED), value)


def _part(taken: Buffer, at: Expr, term: Term) -> Expr:
    value = taken[tir.lanes(at, COPIED)]
    if term.rotation:
        left, right = (tir.constant("uint8", COPIED, n) for n in (term.rotation, BYTE_INPUTS - term.rotation))
        value = T.bitwise_or(T.shift_left(value, left), T.shift_right(value, right))
    return T.bitwise_and(value, tir.constant("uint8", COPIED, term.mask))


def _copy(planes: IndexPlanes, source: Buffer, out: Buffer, num_steps: Expr) -> None:
    """One plane for each tap, without halo and stride."""
    g, origin = planes.geometry, planes.spikes.halo
    with T.serial(planes.mixed_planes) as plane, T.serial(g.kernel[0]) as ky, T.serial(g.kernel[1]) as kx:
        with T.serial(num_steps) as t, T.serial(planes.height) as oy:
            y = oy * g.stride[0] + ky * g.dilation[0] + (origin - g.padding[0])
            x = kx * g.dilation[1] + (origin - g.padding[1])
            row = plane * planes.image_stride + t * planes.image + y * planes.columns + x
            target = planes.plane(0, plane, ky * g.kernel[1] + kx) + t * planes.pitch + oy * planes.width
            for first, count in pieces(planes.width, COPIED):
                value = _every(source, row + first * g.stride[1], g.stride[1], count)
                tir.store(out, tir.lanes(target + first, count), value)


def _every(source: Buffer, first: Expr, step: int, count: int) -> Expr:
    """`count` bytes, each `step` behind the one before: read together, and the others left out."""
    if step == 1 or count == 1:
        return source[tir.lanes(first, count)]
    return tir.join([source[tir.lanes(first, count * step)]], range(0, count * step, step))


def pieces(extent: int, most: int, *, halves: bool = True) -> Iterator[tuple[Expr, int]]:
    """(first, number) of consecutive elements that are worked on together.

    A loop over `most` at a time, then the rest: in ever smaller halves of `most`, a power of two, or as a whole.
    """
    done, count = extent // most * most, most
    if done:
        with T.serial(extent // most) as index:
            yield index * most, most
    while done < extent:
        count = min(count, extent - done) if not halves else count // 2
        if count <= extent - done:
            yield T.int32(done), count
            done += count
