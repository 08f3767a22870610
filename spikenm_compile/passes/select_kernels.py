"""Choose the kernel family of each layer, and say why."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor
from torch.fx import GraphModule

from spikenm_compile.costs import amounts
from spikenm_compile.costs.advice import NO_ADVISOR, Advisor
from spikenm_compile.costs.layer_call import LayerCall
from spikenm_compile.costs.row_shapes import kept_share, slab_width
from spikenm_compile.costs.second_kernel import second_kernel
from spikenm_compile.costs.table_format import MAX_CLASSES, class_bytes, table_classes, table_format_of
from spikenm_compile.errors import PassError
from spikenm_compile.layer_calls import layer_call, layer_nodes
from spikenm_compile.ops import Alternative, IntConv2d, is_depthwise
from spikenm_compile.passes.base import Pass
from spikenm_compile.passes.fuse_neuron import FuseNeuron

STAGGERED_ROWS = amounts.STAGGERED_ROWS
"""Each spike adds, at each tap, a weight row of the one slab of outputs that it reaches: time ∝ spikes · N/M."""
SHARED_ROWS = amounts.SHARED_ROWS
"""Each spike adds, at each tap, a weight row of the slabs of outputs whose mask keeps it: time ∝ spikes · N/M."""
EVENT_ROWS = amounts.EVENT_ROWS
"""Each spike adds one weight row: time is proportional to the number of spikes. A count of n is n spikes."""
"""Each spike adds one weight row: time is proportional to the number of spikes."""
LOOKUP_TABLES = amounts.LOOKUP_TABLES
"""Partial sums of four inputs are looked up at many positions at once: time ∝ weights kept, whatever spikes."""
DENSE_ROWS = amounts.DENSE_ROWS
"""Multiplies every level: takes any integer input."""
SPIKE_ROWS = "spike-rows"
"""Reads spikes off their bits, each adds one weight row; groups and dilation too."""
LEVEL_ROWS = "level-rows"
"""Each level that is not zero adds its multiple of one weight row: takes any integer input."""
SPARSE_TENSOR_CORE = "sparse-tensor-core"
"""A GPU's 2:4 instructions: half of the multiplications of the dense ones."""
DENSE_TENSOR_CORE = "dense-tensor-core"
"""A GPU's int8 matrix instructions: takes any weights."""
CUDA_CORE = "cuda-core"
"""One multiplication at a time: for channel groups that fill no tensor core."""
ONNX_CONV = "onnx-conv"
"""The convolution of an ONNX runtime: dense, whatever the weights and the input."""

QUAD = 4
"""Consecutive channels of which a 2:4 instruction multiplies two."""
TENSOR_CORE_UNIT = 32
"""Channels that stored spikes are padded to: a group of channels must not begin inside of such a unit."""


@dataclass(frozen=True)
class SelectKernels(Pass):
    """Set `kernel` of each layer to the quickest of the target's families that take it, and add the reason to `why`.

    Given:
        %lif2 = IntConvNeuron[lif2](%spikes1, %lif2_v)

    Result:
        %lif2 = IntConvNeuron[lif2](%spikes1, %lif2_v) {..., kernel=event-rows}

    Errors: a layer that no family takes.
    """

    name: ClassVar[str] = "select-kernels"
    runs_after: ClassVar[tuple[type[Pass], ...]] = (FuseNeuron,)

    families: tuple[str, ...]
    """Best first, which counts where no times are known."""
    advisor: Advisor = NO_ADVISOR
    """What is known of kernels' times."""

    def apply(self, graph_module: GraphModule) -> bool:
        """Annotates modules."""
        changed = False
        for node, conv in layer_nodes(graph_module):
            if not conv.kernel:
                self._choose(conv, layer_call(graph_module, node, conv))
                changed = True
        return changed

    def _choose(self, conv: IntConv2d, call: LayerCall | None) -> None:
        conv.kernel, reason = choose(conv, self.families)
        taking = [family for family in self.families if REFUSALS[family](conv) is None]
        advice = None if call is None else self.advisor.advise(call, taking)
        if call is not None and advice is not None:
            conv.kernel, conv.tile_width, conv.microseconds = advice.family, advice.tile_width, advice.microseconds
            conv.savings = self.advisor.savings(call, taking)
            if len(taking) > 1 or advice.tile_width is not None:
                reason = f"{reason}; {advice.reason}" if _refusals(conv, self.families) else advice.reason
            conv.alternative = self._alternative(call, taking, conv.kernel)
            reason += _words_of(conv.alternative)
        conv.why = f"{conv.why}; {reason}{_small_weights(conv)}"

    def _alternative(self, call: LayerCall, taking: list[str], kernel: str) -> Alternative | None:
        """Lookup tables keep states in an order of their own, so that no other family takes turns with them."""
        taking = [family for family in taking if (family == LOOKUP_TABLES) == (kernel == LOOKUP_TABLES)]
        costs = self.advisor.costs
        second = None if costs is None else second_kernel(costs, call, taking, kernel)
        return None if second is None else Alternative(second.family, second.density, second.is_denser)


def _words_of(other: Alternative | None) -> str:
    """When the second kernel runs."""
    if other is None:
        return ""
    side = "more than" if other.is_denser else "at most"
    return f"; {other.kernel.replace('-', ' ')} in calls with {side} {100 * other.density:.1f} % spikes"


def _small_weights(conv: IntConv2d) -> str:
    """What the kernels that add weight rows make of small weights."""
    largest = int(conv.weight.abs().max())
    if conv.kernel not in (STAGGERED_ROWS, SHARED_ROWS, EVENT_ROWS) or largest > 63:
        return ""
    return f"; weights of {4 if largest <= 7 else 7} bits"


def choose(conv: IntConv2d, families: tuple[str, ...]) -> tuple[str, str]:
    """(family, reason) for one layer: the first family that takes it, and what kept the better ones away."""
    refusals = _refusals(conv, families)
    for family in families:
        if REFUSALS[family](conv) is None:
            return family, refusals[0] if refusals else REASONS[family]
    raise PassError(
        f"layer '{conv.layer}': no kernel family of the target takes it ({'; '.join(refusals)}); choose another target"
    )


def _refusals(conv: IntConv2d, families: tuple[str, ...]) -> list[str]:
    """Why the families before the first that takes the layer do not."""
    refused = itertools.takewhile(lambda refusal: refusal is not None, (REFUSALS[f](conv) for f in families))
    return [refusal for refusal in refused if refusal]


def _no_staggered_rows(conv: IntConv2d) -> str | None:
    """Not worth a word where nobody asked for the pattern."""
    pattern = conv.pattern
    if pattern is None or not pattern.staggered:
        return ""
    outputs, classes = conv.weight.shape[0], pattern.m // pattern.n
    if outputs % classes or classes > MAX_CLASSES:
        return f"{outputs} outputs in {classes} slabs: staggered kernels take equal slabs, {MAX_CLASSES} at most"
    return _no_runs(conv, "staggered")


NARROWEST_SLAB = 8
"""Fewest outputs with a mask of their own that shared kernels take."""
MOST_KEPT = 0.5
"""Share of the inputs up to which a list of those that a mask keeps pays."""


def _no_shared_rows(conv: IntConv2d) -> str | None:
    """Not worth a word where nobody asked for the pattern."""
    if conv.pattern is None or conv.pattern.v == 1:
        return ""
    pattern, outputs = conv.pattern, conv.weight.shape[0]
    if pattern.v < NARROWEST_SLAB:
        return f"slabs of {pattern.v} outputs: shared kernels take {NARROWEST_SLAB} or more"
    kept = kept_share(outputs, pattern)
    if kept > MOST_KEPT:
        together = f"{slab_width(outputs, pattern.v)} outputs together use about {100 * kept:.0f} % of the inputs"
        return f"{together}: lists of shared kernels pay up to {100 * MOST_KEPT:.0f} %"
    if not conv.levels.is_binary:
        return f"input is {conv.levels}: shared kernels take spikes"
    return _no_runs(conv, "shared")


def _no_runs(conv: IntConv2d, kernels: str) -> str | None:
    """Why not all spikes under a row of the kernel stand side by side."""
    if conv.groups > 1:
        return f"{conv.groups} channel groups: {kernels} kernels take one"
    if conv.dilation != (1, 1):
        return f"dilation {conv.dilation[0]}: {kernels} kernels take none"
    return _no_event_rows(conv)


def _no_event_rows(conv: IntConv2d) -> str | None:
    if not conv.levels.is_unary:
        return f"input is {conv.levels}, not spikes or small counts"
    if is_depthwise(conv):
        return "one input channel for each output"
    if conv.groups > MAX_CLASSES:
        return f"{conv.groups} channel groups: event rows take {MAX_CLASSES} at most"
    return None


def _no_lookup_tables(conv: IntConv2d) -> str | None:
    if not conv.levels.is_binary:
        return f"input is {conv.levels}, not spikes"
    if conv.groups > 1:
        return f"{conv.groups} channel groups"
    if conv.linear_input is not None:
        return "a linear layer has one position"
    outputs, channels, height, width = conv.weight.shape
    slabs = conv.pattern.m // conv.pattern.n if conv.pattern is not None and conv.pattern.staggered else 1
    lookups = 2 * height * width * class_bytes(channels, table_classes(outputs, slabs))
    most = table_format_of(int(conv.weight.abs().max())).most_lookups
    return f"{lookups} lookups for each output: their sums fit words up to {most}" if lookups > most else None


def _no_spike_rows(conv: IntConv2d) -> str | None:
    return None if conv.levels.is_binary else f"input is {conv.levels}, not spikes"


def _no_tensor_core(conv: IntConv2d) -> str | None:
    outputs, inputs = conv.weight.shape[0] // conv.groups, conv.weight.shape[1]
    if conv.groups > 1 and (outputs % TENSOR_CORE_UNIT or inputs % TENSOR_CORE_UNIT):
        return f"{conv.groups} groups of {inputs} to {outputs} channels, not of multiples of {TENSOR_CORE_UNIT}"
    return None


def _no_sparse_tensor_core(conv: IntConv2d) -> str | None:
    inputs = conv.weight.shape[1]
    if inputs < 2 * QUAD:
        return f"{inputs} input {_fill(inputs)} no 2:4 instruction"
    most = most_of_four(conv.weight)
    if most > 2:
        return f"2:4 instructions take at most 2 of 4 consecutive channels, and the weights keep up to {most}"
    return _no_tensor_core(conv)


def _fill(channels: int) -> str:
    return "channel fills" if channels == 1 else "channels fill"


def most_of_four(weight: Tensor) -> int:
    """Most non-zero weights of any four consecutive input channels at one tap, for `weight` [O, I, kh, kw]."""
    kept = (weight != 0).movedim(1, -1)
    padded = F.pad(kept, (0, -kept.shape[-1] % QUAD))
    return int(padded.reshape(-1, QUAD).sum(1).max())


def _takes_all(_conv: IntConv2d) -> str | None:
    return None


REFUSALS: dict[str, Callable[[IntConv2d], str | None]] = {
    STAGGERED_ROWS: _no_staggered_rows,
    SHARED_ROWS: _no_shared_rows,
    EVENT_ROWS: _no_event_rows,
    LOOKUP_TABLES: _no_lookup_tables,
    DENSE_ROWS: _takes_all,
    SPIKE_ROWS: _no_spike_rows,
    LEVEL_ROWS: _takes_all,
    SPARSE_TENSOR_CORE: _no_sparse_tensor_core,
    DENSE_TENSOR_CORE: _no_tensor_core,
    CUDA_CORE: _takes_all,
    ONNX_CONV: _takes_all,
}
"""Family -> why it cannot take a layer, empty where that goes without saying, or None."""

REASONS = {
    STAGGERED_ROWS: "staggered weights: a spike reads one weight row a tap, for the outputs that it reaches",
    SHARED_ROWS: "shared masks: a spike reads a weight row only for outputs that keep it",
    EVENT_ROWS: "silent inputs cost nothing",
    LOOKUP_TABLES: "sums of four spikes are looked up",
    DENSE_ROWS: "takes any input",
    SPIKE_ROWS: "input is spikes: silent ones cost next to nothing",
    LEVEL_ROWS: "takes any input",
    SPARSE_TENSOR_CORE: "2:4 on tensor cores",
    DENSE_TENSOR_CORE: "int8 on tensor cores",
    CUDA_CORE: "takes any weights",
    ONNX_CONV: "ONNX has no sparse convolution",
}
"""Family -> why it is used where no better one is."""
