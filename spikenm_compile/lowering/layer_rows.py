"""Which event lists a layer reads, which weight rows its kernel adds, and how the stored weights become these."""

from __future__ import annotations

from spikenm_compile.costs.row_shapes import input_classes
from spikenm_compile.lowering.kernels.event_list import EventList
from spikenm_compile.lowering.kernels.prepare import StoredWeight
from spikenm_compile.lowering.layout import Bits, Bytes, Geometry, Rows
from spikenm_compile.lowering.row_format import RowFormat, format_of
from spikenm_compile.lowering.shared_slabs import SharedSlabs
from spikenm_compile.lowering.stagger import Stagger
from spikenm_compile.ops import IntConv2d, is_depthwise, largest_sum
from spikenm_compile.passes.select_kernels import STAGGERED_ROWS


def outputs_apart(conv: IntConv2d) -> int:
    """Consecutive outputs that a kernel computes together: those of a group of channels or slab, else all."""
    if is_depthwise(conv):
        return conv.weight.shape[0]
    return conv.weight.shape[0] // (_num_slabs(conv) if conv.kernel == STAGGERED_ROWS else conv.groups)


def _num_slabs(conv: IntConv2d) -> int:
    assert conv.pattern is not None
    return conv.pattern.m // conv.pattern.n


def geometry_of(conv: IntConv2d) -> Geometry:
    """Kernel, stride, padding, dilation."""
    return Geometry((conv.weight.shape[2], conv.weight.shape[3]), conv.stride, conv.padding, conv.dilation)


def never_overflows(conv: IntConv2d) -> bool:
    """Whether the weights prove that every sum fits int16."""
    return largest_sum(conv.weight, conv.levels) < 2**15


def classes_for(conv: IntConv2d, tile_width: int) -> int:
    """Classes to part the inputs of a staggered layer into."""
    return input_classes(conv.weight.shape[0], _num_slabs(conv), tile_width)


def event_list_of(conv: IntConv2d, spikes: Bits, tile_width: int) -> EventList:
    """The events that an event-driven layer reads off its input."""
    if conv.kernel != STAGGERED_ROWS:
        return EventList(spikes, groups=conv.groups)
    return EventList(spikes, Stagger.of(conv, spikes.halo, classes_for(conv, tile_width)))


def rows_of(conv: IntConv2d, source: EventList | Bytes, tile_width: int) -> Rows:
    """Weight rows of one group, or of the outputs that one class of inputs reaches."""
    outputs, channels, height, width = conv.weight.shape
    taps = height * width
    if is_depthwise(conv):
        return Rows(outputs, taps, 1, tile_width)
    if isinstance(source, Bytes):
        # a run ends where the next tap's inputs are not the next ones in memory
        run = width * channels if conv.groups == 1 and conv.dilation[1] == 1 else channels
        return Rows(outputs // conv.groups, taps, channels, tile_width, RowFormat.PAIRS, run)
    if source.stagger is not None and source.stagger.flattened is not None:
        taps, channels = 1, channels * taps
    outputs //= source.classes
    channels //= source.classes // conv.groups
    weights = format_of(int(conv.weight.abs().max()), min(outputs, tile_width))
    return Rows(outputs, taps, channels, tile_width, weights)


def stored_weight_of(conv: IntConv2d, source: EventList | Bytes | SharedSlabs, tile_width: int) -> StoredWeight:
    """How the artifact's weights become the rows; of shared slabs, how they would become rows of all channels."""
    if isinstance(source, SharedSlabs):
        outputs, channels, height, width = conv.weight.shape
        rows = Rows(outputs, height * width, channels, tile_width)
        return StoredWeight(rows, 1, conv.pattern, conv.linear_input is not None)
    rows = rows_of(conv, source, tile_width)
    stagger = None if isinstance(source, Bytes) else source.stagger
    is_flattened = conv.linear_input is not None and stagger is None
    groups = conv.weight.shape[0] // rows.outputs
    return StoredWeight(rows, groups, conv.pattern, is_flattened, stagger)
