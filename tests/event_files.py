"""Writers of small files in the formats of published event sets, and events to put into them."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from spikenm_compile.training.datasets.frames import to_events
from spikenm_compile.training.event_camera import Events

AEDAT2_HEADER = b"#!AER-DAT2.0\r\n# This is a raw AE data file - do not edit\r\n#   #\r\n"
AEDAT3_HEADER = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 0: DVS128\r\n#!END-HEADER\r\n"


def random_events(number: int, size: int, seed: int = 0, longest_us: int = 500_000) -> Events:
    """Ordered events on size×size pixels."""
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, longest_us, number))
    return to_events(rng.integers(0, size, number), rng.integers(0, size, number), rng.integers(0, 2, number), t)


def aedat2_bytes(events: Events) -> bytes:
    """Header and events as a DVS128 writes them."""
    row, column = 127 - events["x"].astype(">u4"), 127 - events["y"].astype(">u4")
    address = row << 8 | column << 1 | (1 - events["polarity"].astype(">u4"))
    return AEDAT2_HEADER + np.stack([address, events["t"]], 1).astype(">u4").tobytes()


def aedat3_packet(events: Events, kind: int = 1, overflow: int = 0, valid: int = 1) -> bytes:
    """A packet; `events` hold the times that stand in the file."""
    x, y, polarity = (events[name].astype("<u4") for name in ("x", "y", "polarity"))
    data = x << 17 | y << 2 | polarity << 1 | valid
    header = struct.pack("<hhiiiiii", kind, 0, 8, 4, overflow, len(events), len(events), len(events))
    return header + np.stack([data, events["t"]], 1).astype("<u4").tobytes()


def aedat3_bytes(events: Events, packet: int = 100) -> bytes:
    """Header, packets of polarity events, and a packet of another type between them."""
    packets = [aedat3_packet(events[i : i + packet]) for i in range(0, len(events), packet)]
    packets.insert(1, aedat3_packet(events[:3], kind=2))
    return AEDAT3_HEADER + b"".join(packets)


def n_mnist_bytes(events: Events) -> bytes:
    """Events of 5 bytes."""
    high = events["polarity"].astype(np.uint32) << 7 | events["t"] >> 16
    columns = (events["x"], events["y"], high, events["t"] >> 8 & 255, events["t"] & 255)
    return np.stack(columns, 1).astype(np.uint8).tobytes()


def write(path: Path, data: bytes | str) -> Path:
    """A file with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path
