"""The events of one output, gathered from the runs of its kernel rows into one list of the numbers of weight rows.

Runs are short, and a loop that ends after a number of steps that nobody can foresee costs a CPU some twenty cycles: one
loop over all events of an output is quicker than one for each run. Events are copied a vector at a time, behind the
end of a run too, where the next run is written over them; rows of zeros fill the list up to the multiple that is
processed at once.
"""

from __future__ import annotations

from collections.abc import Callable

from spikenm_compile.lowering import tir
from spikenm_compile.lowering.tir import Buffer, Expr, T

COPIED = 64
"""Most events that are copied at once: readers of a list may read so many behind its end."""
FEWEST_COPIED = 32
"""Events that are copied at once where runs are short."""
MANY_INPUTS = 768
"""Inputs under a kernel from which on runs are long: of those of a row of 3 × 3, some 25 spike at 10 %."""
ROW_WORD = 8
"""Bytes of the words that rows are counted in: the most that addresses of x86 can be multiplied by."""
LONGEST_BYTES = 960
"""Size of a list, which lies on the stack."""


class EventRun:
    """The list of one output.

    Args:
        events: of the layer's input.
        num_rows: weight rows; the one behind them is of zeros.
        row_words: size of one in words of ROW_WORD bytes.
        most: number of events that an output may have.
        room: number of events that `process` may be given at once.
        process: adds the rows that start at the words in the first `count` entries of a list.
        multiple: what `count` is a multiple of.
    """

    def __init__(
        self,
        events: Buffer,
        num_rows: int,
        row_words: int,
        most: int,
        room: int,
        process: Callable[[Buffer, Expr], None],
        multiple: int,
    ) -> None:
        self.events, self.num_rows, self.row_words, self.process = events, num_rows, row_words, process
        self.multiple = multiple
        self.copied = COPIED if most >= MANY_INPUTS else FEWEST_COPIED
        self.dtype = "uint16" if num_rows * row_words < 2**16 else "int32"
        longest = LONGEST_BYTES // tir.bytes_of(self.dtype)
        self.room = min(room, longest) - self.copied - multiple
        self.may_overflow = most > self.room
        self.list = tir.local(min(longest, most + 2 * self.copied), self.dtype)
        self.count = tir.variable("int32", T.int32(0))

    def add(self, first: Expr, stop: Expr, offset: Expr) -> None:
        """Append the rows `offset` + event of the events first .. stop."""
        with T.serial((stop - first + (self.copied - 1)) // self.copied) as chunk:
            if self.may_overflow:
                with T.If(self.count[0] > self.room), T.Then():
                    self.finish()
            at = first + chunk * self.copied
            rows = tir.cast("int32", self.copied, self.events[tir.lanes(at, self.copied)]) + tir.splat(
                offset, self.copied
            )
            starts = tir.cast(self.dtype, self.copied, rows * tir.constant("int32", self.copied, self.row_words))
            tir.store(self.list, tir.lanes(self.count[0], self.copied), starts)
            tir.store(self.count, 0, self.count[0] + T.min(stop - at, self.copied))

    def finish(self) -> None:
        """Process what was gathered."""
        zeros = tir.constant(self.dtype, self.multiple, self.num_rows * self.row_words)
        tir.store(self.list, tir.lanes(self.count[0], self.multiple), zeros)
        self.process(self.list, (self.count[0] + (self.multiple - 1)) // self.multiple * self.multiple)
        tir.store(self.count, 0, T.int32(0))
