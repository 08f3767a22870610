"""AEDAT 2.0 of a DVS128, the format of jAER in which CIFAR10-DVS is published.

    header   lines that begin with '#', the first '#!AER-DAT2.0'
    event    8 bytes, big endian: address u32, time in microseconds u32

Given   address bit   15: no pixel   14..8: row   7..1: column   0: polarity, 0 brighter
Result  x = 127 - row, y = 127 - column, polarity 1 brighter: upright, as in SpikingJelly's datasets/cifar10_dvs.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from spikenm_compile.training.datasets.files import damaged, read_bytes
from spikenm_compile.training.datasets.frames import to_events
from spikenm_compile.training.event_camera import Events

SIZE = 128
VERSION = b"#!AER-DAT"
EVENT_BYTES = 8
NO_PIXEL = 0x8000


def read_aedat2(path: Path) -> Events:
    """The events of a file, ordered by time.

    Raises:
        DataError: another version or camera, or an event that is cut off.
    """
    data = read_bytes(path)
    start = _header_bytes(path, data)
    left = (len(data) - start) % EVENT_BYTES
    if left:
        raise damaged(path, len(data) - left, f"an event of {left} bytes", f"events have {EVENT_BYTES} bytes")
    address, t = np.frombuffer(data, ">u4", offset=start).reshape(-1, 2).T
    wrong = np.flatnonzero(address >> 16)
    if len(wrong):
        place = start + EVENT_BYTES * int(wrong[0])
        raise damaged(path, place, f"address {address[wrong[0]]:#x}", "a DVS128 has addresses of 16 bits")
    is_pixel = (address & NO_PIXEL) == 0
    address, t = address[is_pixel], t[is_pixel]
    return to_events(127 - (address >> 8 & 127), 127 - (address >> 1 & 127), 1 - (address & 1), t)


def _header_bytes(path: Path, data: bytes) -> int:
    """Where the events begin."""
    if not data.startswith(VERSION + b"2.0"):
        raise damaged(path, 0, f"the file begins with {data[:12]!r}", "AEDAT 2.0 begins with '#!AER-DAT2.0'")
    place = 0
    while data[place : place + 1] == b"#":
        end = data.find(b"\n", place)
        if end < 0:
            raise damaged(path, place, "a header line without an end", "header lines end with a line feed")
        place = end + 1
    return place
