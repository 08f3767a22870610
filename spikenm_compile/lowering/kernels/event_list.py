"""Spikes to event lists: the active channels of each row of pixels, in order, once per layer input.

    for t, y, x:  start[t][y][x] = number of events before this pixel
                  events[...]    = x · C + c for each spike c of the pixel

x counts from the halo's first column and y from its first row, so that a convolution needs no bounds: the events of the
taps kx = 0..kw-1 at output x are the one run start[x] .. start[x + kw].
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx

from spikenm_compile.lowering import tir
from spikenm_compile.lowering.layout import WORD, Bits
from spikenm_compile.lowering.tir import T


@dataclass(frozen=True)
class EventList:
    """Where the events of a spike train lie: `start` int32 [t][rows][columns + 1], `events` of `dtype`."""

    spikes: Bits

    @property
    def rows(self) -> int:
        """Rows with halo."""
        return self.spikes.height + 2 * self.spikes.halo

    @property
    def columns(self) -> int:
        """Columns with halo."""
        return self.spikes.width + 2 * self.spikes.halo

    @property
    def dtype(self) -> str:
        """The narrowest type that holds x · C + c."""
        return "uint16" if self.columns * self.spikes.channels <= 2**16 else "int32"

    def start_bytes(self, num_steps: int) -> int:
        """Size of `start`."""
        return 4 * num_steps * self.rows * (self.columns + 1)

    def event_bytes(self, num_steps: int) -> int:
        """Size of `events` when every neuron spikes."""
        return tir.bytes_of(self.dtype) * num_steps * self.spikes.height * self.spikes.width * self.spikes.channels


def build_event_list(name: str, lists: EventList) -> list[tirx.PrimFunc]:
    """Kernel `(spikes, start, events, num_steps)`."""
    spikes, functions = lists.spikes, list[tirx.PrimFunc]()
    params = [tir.Param("spikes", "uint64"), tir.Param("start", "int32"), tir.Param("events", lists.dtype)]
    with tir.kernel(name, params, functions) as ((words, start, events), num_steps):
        count = tir.variable("int32", T.int32(0))
        word = tir.variable("uint64", T.uint64(0))
        with T.serial(num_steps * lists.rows) as row:
            first = row * (lists.columns + 1)
            with T.serial(lists.columns) as x:
                tir.store(start, first + x, count[0])
                for i in range(spikes.pixel):
                    tir.store(word, 0, words[(row * lists.columns + x) * spikes.pixel + i])
                    with T.While(word[0] != T.uint64(0)):
                        event = x * spikes.channels + i * WORD + tir.trailing_zeros(word[0])
                        tir.store(events, count[0], T.cast(event, lists.dtype))
                        tir.store(count, 0, count[0] + 1)
                        tir.store(word, 0, word[0] & (word[0] - T.uint64(1)))
            tir.store(start, first + lists.columns, count[0])
    return functions
