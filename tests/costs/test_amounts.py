"""How much kernels do, counted by hand and against the layouts that they use."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from layer_call_examples import CALL, call

from spikenm_compile.costs.amounts import DENSE_ROWS, EVENT_ROWS, SHARED_ROWS, STAGGERED_ROWS, Caches, amounts_of
from spikenm_compile.costs.layer_call import LayerCall
from spikenm_compile.costs.row_shapes import input_classes, kept_share, slab_width, tile_for
from spikenm_compile.pattern import Pattern

CACHES = Caches(l1_bytes=32 * 1024, l2_bytes=1024 * 1024)

GEOMETRIES = [
    {},
    {"stride": (2, 1), "padding": (1, 2)},
    {"kernel": (2, 3), "padding": (0, 0)},
    {"dilation": (2, 2), "padding": (2, 2)},
    {"kernel": (8, 8), "padding": (0, 0)},
]


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_pixels_under_taps_are_those_of_a_convolution_of_ones(geometry: Any) -> None:
    layer: LayerCall = call(**geometry)
    kernel = torch.ones(1, 1, *layer.kernel)
    read = F.conv2d(torch.ones(1, 1, *layer.size), kernel, None, layer.stride, layer.padding, layer.dilation)
    assert (layer.pixels_read, layer.out_size) == (int(read.sum()), tuple(read.shape[2:]))


def test_event_rows_by_hand() -> None:
    found = amounts_of(CALL, EVENT_ROWS, 64, CACHES)
    words, added = 4 * 64 * (1 - 0.875**64), 4 * 0.125 * 64 * 22**2 * 2  # 22 = 3·8 - 2 taps inside, 2 tiles
    assert (found.listed_words, found.copied_events) == pytest.approx((words, added))
    assert (found.classified_words, found.multiplied, found.unpacked) == (0, 0, 0)
    assert (found.list_pixels, found.sums, found.runs) == (4 * 100, 4 * 64 * 2, 4 * 64 * 2 * 3)
    assert (found.bytes_of_8, found.bytes_of_7, found.bytes_of_4) == (added * 64, 0, 0)
    assert found.bytes_beyond_l1 == pytest.approx(added * 64 * (1 - 32 / 36))  # 9 · 64 rows of 64 bytes
    assert (found.bytes_beyond_l2, found.updates) == (0, 4 * 64 * 128)


def test_staggered_rows_add_as_many_rows_of_fewer_bytes() -> None:
    dense, staggered = (amounts_of(call("1:2@stagger"), f, 128, CACHES) for f in (EVENT_ROWS, STAGGERED_ROWS))
    assert staggered.bytes_of_8 == dense.bytes_of_8 / 2
    assert staggered.copied_events == dense.copied_events
    assert staggered.sums == 2 * dense.sums
    assert staggered.classified_words == dense.listed_words * staggered.sums / dense.sums


def test_a_count_is_so_many_events() -> None:
    counts, more = (amounts_of(call(density=d, mean_level=m), EVENT_ROWS, 64, CACHES) for d, m in ((0.1, 2), (0.2, 1)))
    assert replace(counts, listed_words=more.listed_words) == more  # in twice as many words of half as many bits


def test_groups_of_channels_have_lists_of_their_own() -> None:
    one, four = (amounts_of(call(groups=g), EVENT_ROWS, 128, CACHES) for g in (1, 4))
    assert (four.sums, four.bytes_of_8) == (4 * one.sums, one.bytes_of_8 / 4)
    assert four.classified_words == 4 * one.listed_words


def test_dilation_parts_the_taps_of_a_kernel_row() -> None:
    near, apart = (amounts_of(call(dilation=(1, d)), EVENT_ROWS, 128, CACHES) for d in (1, 2))
    assert (near.runs, apart.runs) == (3 * near.sums, 9 * apart.sums)


def test_depthwise_layers_multiply_one_weight_of_a_tap_for_each_output() -> None:
    assert amounts_of(call(groups=64, outputs=64), DENSE_ROWS, 64, CACHES).multiplied == 4 * 64 * 9 * 64


def test_shared_rows_add_the_kept_share() -> None:
    event, shared = (amounts_of(call("64:1:8"), f, 64, CACHES) for f in (EVENT_ROWS, SHARED_ROWS))
    assert shared.copied_events == event.copied_events / 8
    assert (shared.listed_words, shared.sums) == (0, event.sums)
    assert (shared.masked_words, shared.appends) == (4 * 64 * 2 * 9, 4 * 64 * 2 * 9 * 64 / 8 / 16)
    halves = amounts_of(call("64:1:8"), SHARED_ROWS, 32, CACHES)
    assert (halves.sums, halves.appends) == (2 * shared.sums, shared.appends)  # tiles of a slab share its list


def test_narrow_slabs_are_joined() -> None:
    assert [slab_width(256, v) for v in (8, 12, 16, 40, 48, 64, 96, 512)] == [64, 48, 64, 40, 48, 64, 96, 256]
    assert kept_share(128, Pattern.parse("32:1:4")) == pytest.approx(1 - 0.75**2)
    assert kept_share(128, Pattern.parse("64:1:4")) == 0.25


def test_narrow_weights_make_narrow_rows() -> None:
    as_bytes, pairs, nibbles = (amounts_of(call(largest_weight=w), EVENT_ROWS, 128, CACHES) for w in (127, 63, 7))
    assert as_bytes.bytes_of_8 == pairs.bytes_of_7 == 2 * nibbles.bytes_of_4 > 0
    narrow = amounts_of(call(largest_weight=7), EVENT_ROWS, 32, CACHES)
    assert narrow.bytes_of_4 == 0 < narrow.bytes_of_7


def test_dense_rows_do_not_depend_on_the_density() -> None:
    few, many = (amounts_of(call(density=d), DENSE_ROWS, 128, CACHES) for d in (0.01, 0.9))
    assert few == many
    assert few.multiplied == 4 * 64 * 9 * 64 * 128
    assert few.unpacked == 4 * 64 * 64
    assert amounts_of(call(is_binary=False), DENSE_ROWS, 128, CACHES).unpacked == 0


def test_classes_are_as_many_as_slabs_that_are_wide_enough() -> None:
    assert [input_classes(512, 8, 128), input_classes(128, 8, 128), input_classes(32, 8, 128)] == [8, 2, 2]
    assert input_classes(96, 3, 128) == 3


def test_neurons_of_many_states_have_narrow_tiles() -> None:
    assert [tile_for(128, n) for n in (0, 1, 2, 3, 100)] == [128, 128, 64, 32, 8]
