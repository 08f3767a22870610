import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from event_files import (
    AEDAT2_HEADER,
    AEDAT3_HEADER,
    aedat2_bytes,
    aedat3_bytes,
    aedat3_packet,
    n_mnist_bytes,
    random_events,
    write,
)
from spikingjelly_readers import spikingjelly_reader

from spikenm_compile.errors import DataError
from spikenm_compile.training.datasets.aedat2 import read_aedat2
from spikenm_compile.training.datasets.aedat3 import read_aedat3
from spikenm_compile.training.datasets.frames import to_events
from spikenm_compile.training.datasets.n_mnist import read_n_mnist
from spikenm_compile.training.event_camera import Events

READERS: dict[str, tuple[Callable[[Path], Events], Callable[[Events], bytes], int]] = {
    "aedat2": (read_aedat2, aedat2_bytes, 128),
    "aedat3": (read_aedat3, aedat3_bytes, 128),
    "n-mnist": (read_n_mnist, n_mnist_bytes, 34),
}


@pytest.mark.parametrize("name", READERS)
def test_what_was_written_is_read_as_spikingjelly_reads_it(name: str, tmp_path: Path) -> None:
    read, encode, size = READERS[name]
    events = random_events(777, size)
    path = write(tmp_path / "file", encode(events))
    peers = {
        "aedat2": lambda: spikingjelly_reader("cifar10_dvs")._load_origin_data(path),
        "aedat3": lambda: spikingjelly_reader("utils").load_aedat_v3(path),
        "n-mnist": lambda: spikingjelly_reader("utils").load_ATIS_bin(path),
    }
    expected, actual = peers[name](), read(path)
    assert np.array_equal(actual, events)
    for key, column in (("t", "t"), ("x", "x"), ("y", "y"), ("p", "polarity")):
        assert np.array_equal(actual[column], expected[key])


@pytest.mark.parametrize("name", READERS)
def test_a_file_that_is_cut_off_anywhere_gives_its_events_or_one_sentence(name: str, tmp_path: Path) -> None:
    read, encode, size = READERS[name]
    whole = encode(random_events(40, size))
    for length in range(len(whole)):
        path = write(tmp_path / "file", whole[:length])
        try:
            number = len(read(path))
        except DataError as error:
            sentence = str(error)
        else:
            assert number <= 40
            continue
        assert sentence.startswith(f"{path}, byte ")


@pytest.mark.parametrize("name", READERS)
def test_random_damage_never_ends_in_a_traceback(name: str, tmp_path: Path) -> None:
    read, encode, size = READERS[name]
    whole = encode(random_events(20, size))
    rng = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(whole)
        for place in rng.integers(0, len(whole), 3):
            damaged[place] = rng.integers(0, 256)
        try:
            events = read(write(tmp_path / "file", bytes(damaged)))
        except DataError:
            continue
        assert (events["x"] < size).all()
        assert (events["y"] < size).all()
        assert (np.diff(events["t"].astype(np.int64)) >= 0).all()


def packet(kind: int = 1, size: int = 8, capacity: int = 1, number: int = 1, overflow: int = 0) -> bytes:
    return struct.pack("<hhiiiiii", kind, 0, size, 4, overflow, capacity, number, number) + bytes(8)


SENTENCES = {
    "aedat2 version": (read_aedat2, AEDAT3_HEADER, r"byte 0: .*AEDAT 2\.0 begins with"),
    "aedat2 header": (read_aedat2, b"#!AER-DAT2.0", "byte 0: a header line without an end"),
    "aedat2 address": (
        read_aedat2,
        AEDAT2_HEADER + struct.pack(">4I", 0, 0, 1 << 16, 0),
        f"byte {len(AEDAT2_HEADER) + 8}: address 0x10000",
    ),
    "aedat2 event": (read_aedat2, AEDAT2_HEADER + bytes(13), "an event of 5 bytes; events have 8 bytes"),
    "aedat3 version": (read_aedat3, AEDAT2_HEADER, r"byte 0: .*AEDAT 3\.1 begins with"),
    "aedat3 header": (read_aedat3, b"#!AER-DAT3.1\r\n#Format: RAW\r\n", "byte 28: the header stops"),
    "aedat3 packet header": (read_aedat3, AEDAT3_HEADER + bytes(5), "5 bytes; packet headers have 28"),
    "aedat3 packet": (read_aedat3, AEDAT3_HEADER + packet(capacity=9), "a packet of 72 bytes, of which 8 are there"),
    "aedat3 huge": (read_aedat3, AEDAT3_HEADER + packet(capacity=2**31 - 1), "of which 8 are there"),
    "aedat3 negative": (read_aedat3, AEDAT3_HEADER + packet(capacity=-1, number=-1), "a packet of -1 of -1 events"),
    "aedat3 number": (read_aedat3, AEDAT3_HEADER + packet(number=2), "a packet of 2 of 1 events"),
    "aedat3 size": (read_aedat3, AEDAT3_HEADER + packet(size=4), "of 4 bytes; polarity events have 8 bytes"),
    "aedat3 overflow": (read_aedat3, AEDAT3_HEADER + packet(overflow=2), "overflow 2 of the time; .*71 minutes"),
    "n-mnist event": (read_n_mnist, bytes(7), "byte 5: an event of 2 bytes"),
    "n-mnist pixel": (read_n_mnist, bytes([0, 0, 0, 0, 0, 1, 34, 0, 0, 0]), r"byte 5: an event at \(1, 34\)"),
}


@pytest.mark.parametrize("case", SENTENCES)
def test_what_is_wrong_is_said(case: str, tmp_path: Path) -> None:
    read, data, sentence = SENTENCES[case]
    with pytest.raises(DataError, match=sentence):
        read(write(tmp_path / "file", data))


def test_a_pixel_outside_of_the_camera_is_named_by_its_place_in_the_file(tmp_path: Path) -> None:
    inside, outside = (
        to_events([1] * 3, [2] * 3, [0] * 3, np.arange(3)),
        to_events([1, 128], [2, 2], [0, 0], np.arange(2)),
    )
    data = AEDAT3_HEADER + aedat3_packet(inside) + aedat3_packet(outside)
    place = len(data) - 8
    with pytest.raises(DataError, match=rf"byte {place}: an event at \(128, 2\).*128×128 pixels"):
        read_aedat3(write(tmp_path / "file", data))


def test_invalid_events_are_left_out_and_overflown_times_go_on(tmp_path: Path) -> None:
    events = to_events([1, 2], [3, 4], [0, 1], np.array([10, 20]))
    data = AEDAT3_HEADER + aedat3_packet(events) + aedat3_packet(events, valid=0) + aedat3_packet(events, overflow=1)
    read = read_aedat3(write(tmp_path / "file", data))
    assert read["t"].tolist() == [10, 20, 2**31 + 10, 2**31 + 20]


def test_addresses_that_are_no_pixels_are_left_out(tmp_path: Path) -> None:
    data = AEDAT2_HEADER + struct.pack(">4I", 0x8000, 5, 127 << 8 | 126 << 1, 6)
    read = read_aedat2(write(tmp_path / "file", data))
    assert read.tolist() == [(0, 1, 1, 6)]


def test_an_overflow_event_of_n_mnist_moves_the_times_behind_it(tmp_path: Path) -> None:
    data = bytes([1, 2, 128, 0, 9, 0, 240, 0, 0, 0, 3, 4, 0, 0, 1])
    assert read_n_mnist(write(tmp_path / "file", data)).tolist() == [(1, 2, 1, 9), (3, 4, 0, 2**13 + 1)]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be read .*directory"):
        read_n_mnist(tmp_path)
