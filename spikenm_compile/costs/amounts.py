"""How much of each thing a kernel does in one call of a layer, by kernel family.

A kernel's time is taken to be the sum of these amounts, each times a coefficient of the CPU (costs.cpu_costs):

    staggered rows, event rows      a list of the events; per tile of outputs and output pixel, the rows of its events
    shared rows                     per slab and output pixel, a list of the events it keeps; per tile, their rows
    lookup tables                   index bytes of all inputs for each tap; per output, all its tables at all positions
    dense rows                      a byte per input; per output pixel, every weight of every input

Weight rows of a tile that do not fit the first cache are charged as coming from the second, in the proportion that
does not fit. The next tile has other rows: where those of all tiles do not fit the second cache, each that is used at
all, 1 - exp(-uses) of them, comes from beyond it once. Tables are charged alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from spikenm_compile.costs.layer_call import LayerCall
from spikenm_compile.costs.row_shapes import input_classes, kept_share, padded_row, slab_width, weight_bits
from spikenm_compile.costs.table_format import ENTRIES, class_bytes, table_format_of

STAGGERED_ROWS, SHARED_ROWS, EVENT_ROWS, DENSE_ROWS = "staggered-rows", "shared-rows", "event-rows", "dense-rows"
LOOKUP_TABLES = "lookup-tables"
"""Kernel families of CPUs; passes.select_kernels says what they are."""
POSITIONS, TILE_OUTPUTS = 64, 8
"""Of lookup tables: positions of a vector, and outputs of a tile whose tables have one digit."""
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
    listed_words: float = 0.0
    """Words of the input with spikes in them, which are put into the only list."""
    classified_words: float = 0.0
    """The same where there are several lists, once for each."""
    sums: float = 0.0
    """Sums of events: one for each output pixel, tile of outputs and step."""
    runs: float = 0.0
    """Kernel rows of these sums, or taps where these are apart, each a run of a list."""
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
    indexed: float = 0.0
    """Index bytes that are laid out for the taps."""
    looked_up: float = 0.0
    """Tables, times vectors of 64 positions."""
    moved_digits: float = 0.0
    """Vectors of 64 sums of digits that are moved from bytes to words."""
    updates_of_planes: float = 0.0
    """Outputs that get a new value where consecutive positions do so together."""
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
    if family == LOOKUP_TABLES:
        return _lookups(call, caches)
    if family == SHARED_ROWS:
        return _shared(call, tile_width, caches)
    return _events(call, tile_width, caches, call.groups if family == EVENT_ROWS else classes_of(call, tile_width))


def outputs_together(call: LayerCall) -> int:
    """Outputs that read the same inputs, or whose inputs are the lanes beside theirs: a tile holds no others."""
    return call.outputs if call.is_depthwise else call.outputs // call.groups


def classes_of(call: LayerCall, tile_width: int) -> int:
    """Classes that the inputs of a staggered layer are parted into."""
    return input_classes(call.outputs, call.slabs, tile_width)


def _events(call: LayerCall, tile_width: int, caches: Caches, classes: int) -> Amounts:
    words = call.num_steps * call.size[0] * call.size[1] * _active_words(call)
    halo_pixels = (call.size[0] + 2 * call.padding[0]) * (call.size[1] + 2 * call.padding[1])
    in_class = call.outputs // classes
    width = min(in_class, tile_width)
    tiles = -(-in_class // tile_width)
    bits = weight_bits(call.largest_weight, width)
    row = padded_row(width, bits)
    out_pixels = call.num_steps * call.out_size[0] * call.out_size[1]
    added = call.num_steps * call.events_per_input * call.channels * call.pixels_read * tiles
    sums = float(out_pixels * classes * tiles)
    footprint = call.kernel[0] * call.kernel[1] * call.channels // classes * row
    num_bytes = added * row
    stored = footprint * tiles * classes
    touched = stored * (1 - math.exp(-num_bytes / stored))
    return Amounts(
        list_pixels=float(call.num_steps * halo_pixels * classes),
        listed_words=words if classes == 1 else 0.0,
        classified_words=words * classes if classes > 1 else 0.0,
        sums=sums,
        runs=sums * call.kernel[0] * (1 if call.dilation[1] == 1 else call.kernel[1]),
        copied_events=added,
        bytes_of_8=num_bytes if bits == 8 else 0.0,
        bytes_of_7=num_bytes if bits == 7 else 0.0,
        bytes_of_4=num_bytes if bits == 4 else 0.0,
        bytes_beyond_l1=num_bytes * caches.beyond_l1(footprint),
        bytes_beyond_l2=touched * caches.beyond_l2(stored),
        widened=0.0 if call.fits_int16 else sums * width,
        updates=float(out_pixels * call.outputs),
    )


def _active_words(call: LayerCall) -> float:
    """Words of one pixel that are not zero, where inputs spike independently; a count of n has n words."""
    full, rest = divmod(call.channels, WORD)
    levels = call.events_per_input / call.density if call.density else 1.0
    return levels * sum(n * (1 - (1 - call.density) ** bits) for n, bits in ((full, WORD), (rest > 0, rest)))


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


def _lookups(call: LayerCall, caches: Caches) -> Amounts:
    number_format = table_format_of(call.largest_weight)
    classes = call.table_classes
    entries = call.kernel[0] * call.kernel[1] * class_bytes(call.channels, classes)
    positions = call.num_steps * call.out_size[0] * call.out_size[1]
    vectors = float(call.outputs * -(-positions // POSITIONS))
    of_output = entries * 2 * number_format.digits
    stored = float(call.outputs * of_output * ENTRIES)
    num_bytes = vectors * of_output * ENTRIES
    in_tile = TILE_OUTPUTS // number_format.digits * of_output * ENTRIES
    return Amounts(
        indexed=float(entries * classes * positions),
        looked_up=vectors * of_output,
        moved_digits=vectors * number_format.digits * -(-entries // number_format.bytes_at_once),
        bytes_beyond_l1=num_bytes * caches.beyond_l1(in_tile),
        bytes_beyond_l2=stored * caches.beyond_l2(stored),
        widened=0.0 if call.fits_int16 else vectors * POSITIONS,
        updates_of_planes=float(positions * call.outputs),
    )


def _dense(call: LayerCall, tile_width: int) -> Amounts:
    in_group = outputs_together(call)
    full, tail = divmod(in_group, tile_width)
    columns = full * padded_row(tile_width, 8) + (padded_row(tail, 8) if tail else 0)
    out_pixels = call.num_steps * call.out_size[0] * call.out_size[1]
    products = call.kernel[0] * call.kernel[1] * (1 if call.is_depthwise else call.channels)
    return Amounts(
        updates=float(out_pixels * call.outputs),
        unpacked=float(call.num_steps * call.inputs) if call.is_binary else 0.0,
        multiplied=float(out_pixels * products * columns),
    )
