"""One call of a layer: all that its time depends on, and how much of each thing there is to do in it."""

from __future__ import annotations

from dataclasses import dataclass

from spikenm_compile.costs.table_format import table_classes
from spikenm_compile.pattern import Pattern

Pair = tuple[int, int]


@dataclass(frozen=True)
class LayerCall:
    """A layer of weights and the neurons behind it, over the steps of one call; pairs are (vertical, horizontal)."""

    outputs: int
    channels: int
    """Of the input, all groups together."""
    groups: int
    size: Pair
    """Of the input."""
    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair
    pattern: Pattern | None
    largest_weight: int
    fits_int16: bool
    """Whether the weights prove that every sum fits int16."""
    levels: str
    is_binary: bool
    density: float
    """Share of the inputs that are not zero."""
    num_steps: int
    neuron: str | None
    """Equations of the neurons; None where the layer gives currents."""
    num_states: int
    is_linear: bool = False
    mean_level: float = 1.0
    """Mean magnitude of the inputs that are not zero: 1 of spikes."""

    @property
    def is_depthwise(self) -> bool:
        """Whether each output channel reads one input channel of its own."""
        return self.groups > 1 and self.groups == self.outputs == self.channels

    @property
    def events_per_input(self) -> float:
        """Mean number of events: a count is so many."""
        return self.density * self.mean_level

    @property
    def slabs(self) -> int:
        """Slabs of outputs that staggered weights make; 1 of any other."""
        return self.pattern.m // self.pattern.n if self.pattern is not None and self.pattern.staggered else 1

    @property
    def table_classes(self) -> int:
        """Classes of inputs whose lookup tables slabs of outputs have for themselves; 1 where all outputs read all."""
        return table_classes(self.outputs, self.slabs)

    @property
    def inputs(self) -> int:
        """Of one step."""
        return self.channels * self.size[0] * self.size[1]

    @property
    def out_size(self) -> Pair:
        """Of the output."""
        return self._out(0), self._out(1)

    @property
    def pixels_read(self) -> int:
        """Pairs of an output pixel and a tap that reads a pixel of the input, not the padding."""
        return self._reads(0) * self._reads(1)

    def _out(self, axis: int) -> int:
        reach = self.dilation[axis] * (self.kernel[axis] - 1) + 1
        return (self.size[axis] + 2 * self.padding[axis] - reach) // self.stride[axis] + 1

    def _reads(self, axis: int) -> int:
        starts = (o * self.stride[axis] - self.padding[axis] for o in range(self._out(axis)))
        taps = range(0, self.dilation[axis] * self.kernel[axis], self.dilation[axis])
        return sum(0 <= start + tap < self.size[axis] for start in starts for tap in taps)
