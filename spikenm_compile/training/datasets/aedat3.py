"""AEDAT 3.1, the format of cAER in which DVS128 Gesture is published (iniVation, AEDAT file formats 3.X).

    header   lines that begin with '#', the first '#!AER-DAT3.1', the last '#!END-HEADER'
    packet   28 bytes, little endian: type i16, source i16, event size i32, offset of the time i32, overflow of the
             time i32, capacity i32, number i32, valid i32; then capacity events
    polarity event (type 1)   data u32: x bits 31..17, y bits 16..2, polarity bit 1, valid bit 0;
                              time i32 in microseconds, 0 or more

Given   events of all packets
Result  valid polarity events; t = time + 2^31 · overflow. Packets of other types are skipped
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spikenm_compile.training.datasets.files import damaged, read_bytes
from spikenm_compile.training.datasets.frames import to_events
from spikenm_compile.training.event_camera import Events

SIZE = 128
VERSION = b"#!AER-DAT3.1"
END = b"#!END-HEADER"
PACKET = struct.Struct("<hhiiiiii")
POLARITY_TYPE = 1
POLARITY = np.dtype([("data", "<u4"), ("time", "<u4")])


@dataclass(frozen=True)
class Packet:
    """Polarity events that follow one another in the file."""

    start: int
    """Byte of the first event."""
    number: int
    overflow: int


def read_aedat3(path: Path) -> Events:
    """The events of a file, ordered by time.

    Raises:
        DataError: another version, a packet that is cut off or that claims what cannot be, a pixel outside of the
            camera, a time below 0, or a recording of more than 71 minutes (times have 32 bits here).
    """
    data = read_bytes(path)
    packets = tuple(_packets(path, data))
    parts = [np.frombuffer(data, POLARITY, packet.number, packet.start) for packet in packets]
    raw = np.concatenate([np.empty(0, POLARITY), *parts])
    overflow = np.repeat([p.overflow for p in packets], [p.number for p in packets]).astype(np.int64)
    x, y, is_valid = raw["data"] >> 17, raw["data"] >> 2 & 0x7FFF, (raw["data"] & 1) == 1
    wrong = np.flatnonzero(is_valid & ((x >= SIZE) | (y >= SIZE) | (raw["time"] >> 31 != 0)))
    if len(wrong):
        found = f"an event at ({x[wrong[0]]}, {y[wrong[0]]}), time {raw['time'][wrong[0]]:#x}"
        supported = f"the camera has {SIZE}×{SIZE} pixels, times have 31 bits"
        raise damaged(path, _event_byte(packets, int(wrong[0])), found, supported)
    t = raw["time"] + (overflow << 31)
    return to_events(x[is_valid], y[is_valid], raw["data"][is_valid] >> 1 & 1, t[is_valid])


def _header_bytes(path: Path, data: bytes) -> int:
    """Where the packets begin."""
    if not data.startswith(VERSION):
        raise damaged(path, 0, f"the file begins with {data[:12]!r}", "AEDAT 3.1 begins with '#!AER-DAT3.1'")
    place = 0
    while data[place : place + 1] == b"#":
        end = data.find(b"\n", place)
        if end < 0:
            raise damaged(path, place, "a header line without an end", "header lines end with a line feed")
        line, place = data[place:end], end + 1
        if line.startswith(END):
            return place
    raise damaged(path, place, "the header stops", "it ends with '#!END-HEADER'")


def _packets(path: Path, data: bytes) -> Iterator[Packet]:
    """Every polarity packet, checked against the length of the file."""
    place = _header_bytes(path, data)
    while place < len(data):
        if place + PACKET.size > len(data):
            raise damaged(path, place, f"{len(data) - place} bytes", f"packet headers have {PACKET.size} bytes")
        kind, _, size, _, overflow, capacity, number, _ = PACKET.unpack_from(data, place)
        start = place + PACKET.size
        if size < 1 or not 0 <= number <= capacity or (kind == POLARITY_TYPE and size != POLARITY.itemsize):
            found = f"a packet of {number} of {capacity} events of {size} bytes"
            raise damaged(
                path, place, found, f"polarity events have {POLARITY.itemsize} bytes, number is at most capacity"
            )
        if capacity * size > len(data) - start:
            found = f"a packet of {capacity * size} bytes, of which {len(data) - start} are there"
            raise damaged(path, place, found, "files end with a whole packet")
        if kind == POLARITY_TYPE:
            if overflow not in (0, 1):
                raise damaged(path, place, f"overflow {overflow} of the time", "recordings up to 71 minutes are read")
            yield Packet(start, number, overflow)
        place = start + capacity * size


def _event_byte(packets: tuple[Packet, ...], index: int) -> int:
    """Where the event with this number stands in the file."""
    for packet in packets:
        if index < packet.number:
            break
        index -= packet.number
    return packet.start + POLARITY.itemsize * index
