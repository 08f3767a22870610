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
from spikenm_compile.lowering.kernels.bit_positions import BYTE
from spikenm_compile.lowering.kernels.event_run import COPIED
from spikenm_compile.lowering.kernels.list_writers import BitWriter, ClassWriter, ListWriter, WordWriter
from spikenm_compile.lowering.layout import Bits
from spikenm_compile.lowering.stagger import Stagger
from spikenm_compile.lowering.tir import Buffer, Expr, T


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
        return x * self.stride + c % self.stride

    def class_of(self, y: Expr, x: Expr, c: Expr) -> Expr:
        """The list that a spike belongs to."""
        if self.stagger is not None:
            return self.stagger.class_of(y, x, c)
        return c // self.stride

    def first_event(self, number: int, num_steps: Expr) -> Expr:
        """Where a list begins; lists stand apart by as much as may be written behind the last event of one."""
        return num_steps * (number * self.most_events) + number * BYTE

    def start_bytes(self, num_steps: int) -> int:
        """Size of `start`."""
        return 4 * num_steps * self.rows * (self.columns + 1) * self.classes

    def event_bytes(self, num_steps: int) -> int:
        """Size of `events` when every neuron spikes, and what readers may read behind the last."""
        most = num_steps * self.most_events * self.classes
        return tir.bytes_of(self.dtype) * (most + (self.classes - 1) * BYTE + COPIED)


def build_event_list(name: str, lists: EventList) -> list[tirx.PrimFunc]:
    """Kernel `(spikes, start, events, num_steps)`."""
    spikes, functions = lists.spikes, list[tirx.PrimFunc]()
    params = [tir.Param("spikes", "uint64"), tir.Param("start", "int32"), tir.Param("events", lists.dtype)]
    with tir.kernel(name, params, functions) as ((words, start, events), num_steps):
        count = tir.local(lists.classes, "int32")
        for number in range(lists.classes):
            tir.store(count, number, lists.first_event(number, num_steps))
        writer = _writer(lists, events, count)
        every = tir.lanes(0, lists.classes)
        with T.serial(num_steps) as t, T.serial(lists.rows) as y:
            row = t * lists.rows + y
            first = row * (lists.columns + 1)
            with T.serial(lists.columns) as x:
                tir.store(start, tir.lanes((first + x) * lists.classes, lists.classes), count[every])
                with T.serial(spikes.pixel) as i:
                    word = tir.named(words[(row * lists.columns + x) * spikes.pixel + i])
                    with T.If(word != T.uint64(0)), T.Then():
                        writer.append(word, y, x, i if spikes.most == 1 else i % spikes.words)
            tir.store(start, tir.lanes((first + lists.columns) * lists.classes, lists.classes), count[every])
    return functions


def _writer(lists: EventList, events: Buffer, count: Buffer) -> ListWriter:
    if lists.classes == 1:
        return WordWriter(events, count, lists.dtype, lists.stride)
    if lists.stagger is not None and lists.stagger.repeats:
        return ClassWriter(events, count, lists.dtype, lists.stride, lists.stagger)
    return BitWriter(events, count, lists.dtype, lists.class_of, lists.event)
