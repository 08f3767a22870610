"""How much of each thing a kernel does in one call of a layer, by kernel family.

A kernel's time is taken to be the sum of these amounts, each times a coefficient of the CPU (costs.cpu_costs):

    staggered rows, event rows      a list of the events; per tile of outputs and output pixel, the rows of its events
    shared rows                     per slab and output pixel, a list of the events it keeps; per tile, their rows
    dense rows                      a byte per input; per output pixel, every weight of every input

Weight rows of a tile that do not fit the first cache are charged as coming from the second, in the proportion that
does not fit. The next tile has other rows: where those of all tiles do not fit the second cache, each that is used at
all, 1 - exp(-uses) of them, comes from beyond it once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from spikenm_compile.costs.layer_call import LayerCall
from spikenm_compile.costs.row_shapes import input_classes, kept_share, padded_row, slab_width, weight_bits

STAGGERED_ROWS, SHARED_ROWS, EVENT_ROWS, DENSE_ROWS = "staggered-rows", "shared-rows", "event-rows", "dense-rows"
"""Kernel families of CPUs; passes.select_kernels says what they are."""
WORD, APPENDED = 64, 16
"""Inputs that are put under a pattern at once, and inputs that become entries of a list at once."""


@dataclass(frozen=True)
class Caches:
    """Bytes of data that a core has near."""

    l1_bytes: int
    l2_bytes: int

    def beyond_l1(self, footprint: float) -> float:
        """Share of the footprint that is not in the first level."""
        return max(0.0, 1 - self.l1_bytes / footprint)

    def beyond_l2(self, footprint: float) -> float:
        """Share that is not in the second level."""
        return max(0.0, 1 - self.l2_bytes / footprint)


@dataclass(frozen=True)
class Amounts:
    """Things to do; each field is one coefficient's factor."""

    calls: float = 1.0
    list_pixels: float = 0.0
    """Pixels of the input, halo included, that lists are made of."""
    listed_events: float = 0.0
    classified_events: float = 0.0
    """Events that are put into one list of several."""
    sums: float = 0.0
    """Sums of events: one for each output pixel, tile of outputs and step."""
    runs: float = 0.0
    """Kernel rows of these sums, each a run of a list."""
    copied_events: float = 0.0
    """Events that are gathered from runs."""
    bytes_of_8: float = 0.0
    """Bytes of weight rows that are added, of 8-bit weights."""
    bytes_of_7: float = 0.0
    bytes_of_4: float = 0.0
    bytes_beyond_l1: float = 0.0
    bytes_beyond_l2: float = 0.0
    widened: float = 0.0
    """Sums that are moved from int16 to int32."""
    updates: float = 0.0
    """Outputs that get a new value: neurons, where these are fused."""
    unpacked: float = 0.0
    """Spikes that become bytes."""
    multiplied: float = 0.0
    """Weights that are multiplied, those of a padded row included."""
    masked_words: float = 0.0
    """Words of spikes that are put under a pattern."""
    appends: float = 0.0
    """Sixteen inputs that the pattern keeps, of which those that spike become entries of a list."""


def amounts_of(call: LayerCall, family: str, tile_width: int, caches: Caches) -> Amounts:
    """What a kernel of that family does in one call, with tiles of that many outputs."""
    if family == DENSE_ROWS:
        return _dense(call, tile_width)
    if family == SHARED_ROWS:
        return _shared(call, tile_width, caches)
    return _events(call, tile_width, caches, 1 if family == EVENT_ROWS else classes_of(call, tile_width))


def classes_of(call: LayerCall, tile_width: int) -> int:
    """Classes that the inputs of a staggered layer are parted into."""
    return input_classes(call.outputs, call.slabs, tile_width)


def _events(call: LayerCall, tile_width: int, caches: Caches, classes: int) -> Amounts:
    events = call.num_steps * call.density * call.inputs
    halo_pixels = (call.size[0] + 2 * call.padding[0]) * (call.size[1] + 2 * call.padding[1])
    in_class = call.outputs // classes
    width = min(in_class, tile_width)
    tiles = -(-in_class // tile_width)
    bits = weight_bits(call.largest_weight, width)
    row = padded_row(width, bits)
    out_pixels = call.num_steps * call.out_size[0] * call.out_size[1]
    added = call.num_steps * call.density * call.channels * call.pixels_read * tiles
    sums = float(out_pixels * classes * tiles)
    footprint = call.kernel[0] * call.kernel[1] * call.channels // classes * row
    num_bytes = added * row
    stored = footprint * tiles * classes
    touched = stored * (1 - math.exp(-num_bytes / stored))
    return Amounts(
        list_pixels=float(call.num_steps * halo_pixels * classes),
        listed_events=events,
        classified_events=events if classes > 1 else 0.0,
        sums=sums,
        runs=sums * call.kernel[0],
        copied_events=added,
        bytes_of_8=num_bytes if bits == 8 else 0.0,
        bytes_of_7=num_bytes if bits == 7 else 0.0,
        bytes_of_4=num_bytes if bits == 4 else 0.0,
        bytes_beyond_l1=num_bytes * caches.beyond_l1(footprint),
        bytes_beyond_l2=touched * caches.beyond_l2(stored),
        widened=0.0 if call.fits_int16 else sums * width,
        updates=float(out_pixels * call.outputs),
    )


def _shared(call: LayerCall, tile_width: int, caches: Caches) -> Amounts:
    assert call.pattern is not None
    slab, kept = slab_width(call.outputs, call.pattern.v), kept_share(call.outputs, call.pattern)
    slabs, tiles = -(-call.outputs // slab), -(-slab // tile_width)
    width = min(slab, tile_width)
    bits = weight_bits(call.largest_weight, width)
    row = padded_row(width, bits)
    out_pixels = call.num_steps * call.out_size[0] * call.out_size[1]
    taps, words = call.kernel[0] * call.kernel[1], -(-call.channels // WORD)
    added = call.num_steps * call.density * call.channels * call.pixels_read * kept * slabs * tiles
    sums, num_bytes = float(out_pixels * slabs * tiles), added * row
    footprint = taps * call.channels * kept * row
    stored = footprint * tiles * slabs
    return Amounts(
        sums=sums,
        copied_events=added,
        bytes_of_8=num_bytes if bits == 8 else 0.0,
        bytes_of_7=num_bytes if bits == 7 else 0.0,
        bytes_of_4=num_bytes if bits == 4 else 0.0,
        bytes_beyond_l1=num_bytes * caches.beyond_l1(footprint),
        bytes_beyond_l2=stored * (1 - math.exp(-num_bytes / stored)) * caches.beyond_l2(stored),
        widened=0.0 if call.fits_int16 else sums * width,
        updates=float(out_pixels * call.outputs),
        masked_words=float(out_pixels * slabs * taps * words),
        appends=out_pixels * slabs * taps * call.channels * kept / APPENDED,
    )


def _dense(call: LayerCall, tile_width: int) -> Amounts:
    in_group = call.outputs // call.groups
    full, tail = divmod(in_group, tile_width)
    columns = full * padded_row(tile_width, 8) + padded_row(tail, 8)
    out_pixels = call.num_steps * call.out_size[0] * call.out_size[1]
    taps = call.kernel[0] * call.kernel[1]
    return Amounts(
        updates=float(out_pixels * call.outputs),
        unpacked=float(call.num_steps * call.inputs) if call.is_binary else 0.0,
        multiplied=float(out_pixels * taps * call.channels * columns),
    )
