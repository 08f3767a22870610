"""Spikes to event lists: the active channels of each row of pixels, in order, once per layer input.

    for t, y, x:  start[t][y][x][class] = number of events before this pixel, counted over all lists before too
                  events[...]           = x · C + c for each spike c of the pixel

A count of n is n events. There is one list, or one for each group of channels, or one for each class of inputs of
staggered weights (lowering.stagger); of such a list, C is the number of a pixel's inputs in a class, and c the rank
among them.

x counts from the halo's first column and y from its first row, so that a convolution needs no bounds: the events of the
taps kx = 0..kw-1 at output x are the one run start[x] .. start[x + kw].
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx

from spikenm_compile.lowering import tir
from spikenm_compile.lowering.kernels.event_run import COPIED
from spikenm_compile.lowering.layout import WORD, Bits
from spikenm_compile.lowering.stagger import Stagger
from spikenm_compile.lowering.tir import Expr, T


@dataclass(frozen=True)
class EventList:
    """Where the events of a spike train lie: `start` int32 [t][rows][columns + 1][classes], `events` of `dtype`."""

    spikes: Bits
    stagger: Stagger | None = None
    groups: int = 1
    """Groups of channels, of which each has a list; 1 where weights are staggered."""

    @property
    def rows(self) -> int:
        """Rows with halo."""
        return self.spikes.height + 2 * self.spikes.halo

    @property
    def columns(self) -> int:
        """Columns with halo."""
        return self.spikes.width + 2 * self.spikes.halo

    @property
    def classes(self) -> int:
        """Number of lists."""
        return self.groups if self.stagger is None else self.stagger.classes

    @property
    def inputs(self) -> int:
        """Inputs of one step."""
        return self.spikes.height * self.spikes.width * self.spikes.channels

    @property
    def most_events(self) -> int:
        """Most events of one step in one list."""
        return self.inputs // self.classes * self.spikes.most

    @property
    def stride(self) -> int:
        """By how much the events of neighbours in a row differ: C, or 0 where an event counts over all pixels."""
        if self.stagger is not None and self.stagger.flattened is not None:
            return 0
        return self.spikes.channels // self.classes

    @property
    def dtype(self) -> str:
        """The narrowest type that holds every event."""
        most = self.columns * self.stride or self.inputs // self.classes
        return "uint16" if most <= 2**16 else "int32"

    def event(self, y: Expr, x: Expr, c: Expr) -> Expr:
        """What stands in the list for a spike."""
        if self.stagger is not None:
            return x * self.stride + self.stagger.rank(self.stagger.input_of(y, x, c))
        return x * self.stride + (c if self.groups == 1 else c % self.stride)

    def class_of(self, y: Expr, x: Expr, c: Expr) -> Expr:
        """The list that a spike belongs to."""
        if self.stagger is not None:
            return self.stagger.class_of(y, x, c)
        return 0 if self.groups == 1 else c // self.stride

    def start_bytes(self, num_steps: int) -> int:
        """Size of `start`."""
        return 4 * num_steps * self.rows * (self.columns + 1) * self.classes

    def event_bytes(self, num_steps: int) -> int:
        """Size of `events` when every neuron spikes, and what readers may read behind the last."""
        return tir.bytes_of(self.dtype) * (num_steps * self.most_events * self.classes + COPIED)


def build_event_list(name: str, lists: EventList) -> list[tirx.PrimFunc]:
    """Kernel `(spikes, start, events, num_steps)`."""
    spikes, functions = lists.spikes, list[tirx.PrimFunc]()
    params = [tir.Param("spikes", "uint64"), tir.Param("start", "int32"), tir.Param("events", lists.dtype)]
    with tir.kernel(name, params, functions) as ((words, start, events), num_steps):
        count = tir.local(lists.classes, "int32")
        for number in range(lists.classes):
            tir.store(count, number, num_steps * (number * lists.most_events))
        word = tir.variable("uint64", T.uint64(0))
        every = tir.lanes(0, lists.classes)
        with T.serial(num_steps) as t, T.serial(lists.rows) as y:
            row = t * lists.rows + y
            first = row * (lists.columns + 1)
            with T.serial(lists.columns) as x:
                tir.store(start, tir.lanes((first + x) * lists.classes, lists.classes), count[every])
                for i in range(spikes.pixel):
                    tir.store(word, 0, words[(row * lists.columns + x) * spikes.pixel + i])
                    with T.While(word[0] != T.uint64(0)):
                        c = i % spikes.words * WORD + tir.trailing_zeros(word[0])
                        number = lists.class_of(y, x, c)
                        tir.store(events, count[number], T.cast(lists.event(y, x, c), lists.dtype))
                        tir.store(count, number, count[number] + 1)
                        tir.store(word, 0, word[0] & (word[0] - T.uint64(1)))
            tir.store(start, tir.lanes((first + lists.columns) * lists.classes, lists.classes), count[every])
    return functions
