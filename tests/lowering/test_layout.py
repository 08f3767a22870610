"""How values lie in memory."""

from __future__ import annotations

import itertools

import pytest

from spikenm_compile.lowering.layout import Bits, Bytes, Floats, Geometry, Layout, Planes, Rows
from spikenm_compile.lowering.row_format import RowFormat, format_of
from spikenm_compile.lowering.tir import bytes_of

LAYOUTS = [
    Floats(3, 4, 5),
    Bytes(3, 4, 5, 2),
    Bytes(2, 2, 7, 0, signed=True),
    Bits(3, 4, 64, 1),
    Bits(2, 3, 65),
    Bits(1, 1, 300, 2),
    Planes(3, 4, 5),
]


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_every_value_has_a_place_of_its_own_inside_of_the_buffer(layout: Layout) -> None:
    places = [
        (layout.element(t, y, x, c), c % 64 if isinstance(layout, Bits) else 0)
        for t, y, x, c in itertools.product(range(2), range(layout.height), range(layout.width), range(layout.channels))
    ]
    assert len(set(places)) == len(places)
    assert min(places)[0] >= 0
    assert (max(places)[0] + 1) * bytes_of(layout.dtype) <= layout.num_bytes(2)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_the_halo_lies_around_the_values(layout: Layout) -> None:
    halo = layout.halo
    corner = layout.at(0, -halo, -halo)
    assert corner == 0
    end = layout.at(0, layout.height + halo - 1, layout.width + halo - 1) + layout.pixel
    assert end == layout.step
    assert layout.at(1, -halo, -halo) == layout.step


def test_sizes() -> None:
    bits = Bits(3, 4, 65, 1)
    assert (bits.pixel, bits.row, bits.step, bits.num_bytes(3)) == (2, 12, 60, 3 * 60 * 8)
    assert Bits(1, 1, 64).pixel == 1
    assert Bytes(3, 4, 5, 1).num_bytes(1) == 5 * 6 * 5
    assert Floats(3, 4, 5).num_bytes(2) == 2 * 60 * 4


def test_types() -> None:
    layouts = (Bits(1, 1, 1), Bytes(1, 1, 1), Bytes(1, 1, 1, signed=True), Floats(1, 1, 1))
    assert [layout.dtype for layout in layouts] == ["uint64", "uint8", "int8", "float32"]
    with pytest.raises(TypeError, match="a Layout is Bits, Bytes or Floats"):
        Layout(1, 1, 1).dtype  # noqa: B018


def test_a_word_holds_64_channels() -> None:
    bits = Bits(1, 1, 130)
    assert [bits.element(0, 0, 0, c) for c in (0, 63, 64, 127, 128)] == [0, 0, 1, 1, 2]


def test_planes_are_in_the_user_s_order() -> None:
    planes = Planes(2, 3, 4)
    order = [planes.element(t, y, x, c) for t in range(2) for c in range(4) for y in range(2) for x in range(3)]
    assert order == list(range(48))


def test_the_padding_of_a_weight_row() -> None:
    assert [RowFormat.INT8.row_bytes(width) for width in (1, 15, 16, 17, 32)] == [16, 16, 16, 32, 32]
    assert [RowFormat.INT4.row_bytes(width) for width in (1, 32, 33, 64, 65)] == [16, 16, 32, 32, 64]
    assert Geometry((3, 5)).taps == 15


def test_the_format_follows_the_weights_and_the_width() -> None:
    cases = [(7, 64), (7, 63), (8, 64), (63, 16), (64, 128), (127, 128)]
    expected = [RowFormat.INT4, *[RowFormat.INT7] * 3, *[RowFormat.INT8] * 2]
    assert [format_of(largest, width) for largest, width in cases] == expected


@pytest.mark.parametrize("form", RowFormat)
@pytest.mark.parametrize("outputs", [1, 16, 20, 32, 33, 47, 64])
def test_tiles_cover_all_output_channels_without_overlap(outputs: int, form: RowFormat) -> None:
    rows = Rows(outputs, taps=9, channels=3, tile_width=16, format=form)
    tiles = [rows.tile(index, rows.tile_width) for index in range(rows.num_full)]
    tiles += [rows.tile(rows.num_full, rows.tail)] if rows.tail else []
    channels = [c for tile in tiles for c in range(tile.first, tile.first + tile.width)]
    assert channels == list(range(outputs))
    end = 0
    for tile in tiles:
        assert tile.offset == end
        assert form.columns(tile.row) >= tile.width
        end += tile.row * (rows.num_rows + form.spare_rows)
    assert end == rows.num_bytes
