"""Two kernels of one layer: the number of spikes that a call reads says which of them runs.

Both read the same spikes and write the same output and states, so that calls may take turns.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

from spikenm_compile.lowering.kernels.compare_count import build_compare_count
from spikenm_compile.lowering.layout import Bits
from spikenm_compile.lowering.planner import Planner, Value
from spikenm_compile.lowering.program import Space
from spikenm_compile.ops import IntConv2d
from spikenm_compile.passes.select_kernels import LOOKUP_TABLES


def kernels_of(conv: IntConv2d) -> tuple[IntConv2d, ...]:
    """The layer, once for each of its kernels."""
    if conv.alternative is None:
        return (conv,)
    other = copy.copy(conv)
    other.kernel, other.tile_width, other.alternative = conv.alternative.kernel, None, None
    return conv, other


def plan_kernels(planner: Planner, source: Value, conv: IntConv2d, plan_kernel: Callable[[IntConv2d], None]) -> None:
    """Plan the layer's kernel, or both of them and the choice. Spikes that do not change with time need no choice.

    Args:
        planner: the program so far.
        source: what the layer reads.
        conv: the layer.
        plan_kernel: plans one kernel.
    """
    first, *others = kernels_of(conv)
    if not others or not isinstance(source.layout, Bits) or source.operand.is_static:
        plan_kernel(first)
        return
    assert conv.alternative is not None
    assert LOOKUP_TABLES not in (first.kernel, others[0].kernel), "their states lie otherwise"
    few, many = (first, others[0]) if conv.alternative.is_denser else (others[0], first)
    spikes = source.layout
    most = int(conv.alternative.density * spikes.height * spikes.width * spikes.channels)
    is_many = planner.program.allocate(Space.ARENA, 1)
    planner.emit(build_compare_count(planner.name("count"), spikes, most), source.place, is_many)
    planner.emit_choice(is_many, lambda: plan_kernel(few), lambda: plan_kernel(many))
