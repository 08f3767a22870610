"""Event lists as native code writes them against a loop over the spikes."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spikenm_compile.lowering import tir
from spikenm_compile.lowering.kernels.event_list import EventList, build_event_list
from spikenm_compile.lowering.layout import Bits
from spikenm_compile.lowering.stagger import Stagger
from spikenm_compile.targets.cpu import detect

Array = np.ndarray[Any, np.dtype[Any]]
STEPS = 2
CANARY = 0xA5

LISTS = {
    "one list": EventList(Bits(3, 4, 130, halo=1)),
    "events of 32 bits": EventList(Bits(1, 16, 4096, halo=1)),
    "2:4": EventList(Bits(3, 4, 72, halo=1), Stagger(4, 2, 2, kernel_width=3)),
    "1:4": EventList(Bits(2, 3, 160, halo=1), Stagger(4, 4, 4, kernel_width=2)),
    "1:16": EventList(Bits(2, 2, 96), Stagger(16, 16, 16, kernel_width=3)),
    "groups across words": EventList(Bits(2, 3, 66, halo=1), Stagger(6, 3, 3, kernel_width=3)),
    "1:4 linear": EventList(Bits(1, 1, 144), Stagger(4, 4, 4, 1, flattened=(1, 1))),
    "1:4 linear of an image": EventList(Bits(2, 2, 20, halo=1), Stagger(4, 4, 2, 1, flattened=(2, 2), halo=1)),
}


def run(lists: EventList, words: Array, scratch: Path) -> tuple[Array, Array]:
    """(start, events) as the code writes them; nothing behind them is written."""
    module = tir.compile_functions(build_event_list("build_list", lists), detect().tvm_target)
    tir.write_object(module, scratch / "list.o")
    subprocess.run(["cc", "-shared", "list.o", "-o", "list.so"], cwd=scratch, check=True)
    sizes = lists.start_bytes(STEPS), lists.event_bytes(STEPS)
    start, events = (np.full(size + 64, CANARY, np.uint8) for size in sizes)
    addresses = [ctypes.c_void_p(memory.ctypes.data) for memory in (words, start, events)]
    assert ctypes.CDLL(str(scratch / "list.so")).build_list(*addresses, STEPS) == 0
    assert (start[sizes[0] :] == CANARY).all()
    assert (events[sizes[1] :] == CANARY).all()
    return start[: sizes[0]].view(np.int32), events[: sizes[1]].view(lists.dtype)


def expected(lists: EventList, spikes: Array) -> list[list[list[int]]]:
    """Events [t, row and column][class], in order."""
    found = []
    for t, y, x in np.ndindex(STEPS, lists.rows, lists.columns):
        of_class: list[list[int]] = [[] for _ in range(lists.classes)]
        for c in np.flatnonzero(spikes[t, y, x]).tolist():
            if lists.stagger is None:
                of_class[0].append(x * lists.stride + c)
                continue
            rank = lists.stagger.rank(lists.stagger.input_of(y, x, c))
            of_class[int(lists.stagger.class_of(y, x, c))].append(x * lists.stride + int(rank))
        found.append(of_class)
    return found


@pytest.mark.parametrize("density", [0.1, 1.0])
@pytest.mark.parametrize("name", LISTS)
def test_lists_hold_the_spikes_in_order(tmp_path: Path, name: str, density: float) -> None:
    lists = LISTS[name]
    layout, halo = lists.spikes, lists.spikes.halo
    spikes = np.zeros((STEPS, lists.rows, lists.columns, layout.pixel * 64), np.uint8)
    inside = np.random.default_rng(0).random((STEPS, layout.height, layout.width, layout.channels)) < density
    spikes[:, halo : halo + layout.height, halo : halo + layout.width, : layout.channels] = inside
    words = np.packbits(spikes, axis=-1, bitorder="little")
    start, events = run(lists, words, tmp_path)
    runs = start.reshape(STEPS * lists.rows, lists.columns + 1, lists.classes)
    actual = [
        [events[runs[row, x, k] : runs[row, x + 1, k]].tolist() for k in range(lists.classes)]
        for row, x in np.ndindex(STEPS * lists.rows, lists.columns)
    ]
    assert lists.dtype == ("int32" if name == "events of 32 bits" else "uint16")
    assert actual == expected(lists, spikes)
