"""Choose the kernel family of each layer, and say why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch.fx import GraphModule

from spikenm_compile.errors import PassError
from spikenm_compile.ops import IntConv2d
from spikenm_compile.passes.base import Pass
from spikenm_compile.passes.fuse_neuron import FuseNeuron

EVENT_ROWS = "event-rows"
"""Each spike adds one weight row: time is proportional to the number of spikes."""
DENSE_ROWS = "dense-rows"
"""Multiplies every level: takes any integer input."""
SPIKE_ROWS = "spike-rows"
"""Reads spikes off their bits, each adds one weight row; groups and dilation too."""
LEVEL_ROWS = "level-rows"
"""Each level that is not zero adds its multiple of one weight row: takes any integer input."""
ONNX_CONV = "onnx-conv"
"""The convolution of an ONNX runtime: dense, whatever the weights and the input."""


@dataclass(frozen=True)
class SelectKernels(Pass):
    """Set `kernel` of each layer to the first of the target's families that takes it, and add the reason to `why`.

    Given:
        %lif2 = IntConvNeuron[lif2](%spikes1, %lif2_v)

    Result:
        %lif2 = IntConvNeuron[lif2](%spikes1, %lif2_v) {..., kernel=event-rows}

    Errors: a layer that no family takes.
    """

    name: ClassVar[str] = "select-kernels"
    runs_after: ClassVar[tuple[type[Pass], ...]] = (FuseNeuron,)

    families: tuple[str, ...]

    def apply(self, graph_module: GraphModule) -> bool:
        """Annotates modules."""
        changed = False
        for module in graph_module.modules():
            if isinstance(module, IntConv2d) and not module.kernel:
                module.kernel, reason = choose(module, self.families)
                module.why = f"{module.why}; {reason}"
                changed = True
        return changed


def choose(conv: IntConv2d, families: tuple[str, ...]) -> tuple[str, str]:
    """(family, reason) for one layer: the first family that takes it, and what kept the better ones away."""
    refusals: list[str] = []
    for family in families:
        refusal = REFUSALS[family](conv)
        if refusal is None:
            return family, refusals[0] if refusals else REASONS[family]
        refusals.append(refusal)
    raise PassError(
        f"layer '{conv.layer}': no kernel family of the target takes it ({'; '.join(refusals)}); choose another target"
    )


def _no_event_rows(conv: IntConv2d) -> str | None:
    if not conv.levels.is_binary:
        return f"input is {conv.levels}, not spikes"
    if conv.groups > 1:
        return f"{conv.groups} channel groups"
    return f"dilation {conv.dilation[0]}" if conv.dilation != (1, 1) else None


def _no_spike_rows(conv: IntConv2d) -> str | None:
    return None if conv.levels.is_binary else f"input is {conv.levels}, not spikes"


def _takes_all(_conv: IntConv2d) -> str | None:
    return None


REFUSALS: dict[str, Callable[[IntConv2d], str | None]] = {
    EVENT_ROWS: _no_event_rows,
    DENSE_ROWS: _takes_all,
    SPIKE_ROWS: _no_spike_rows,
    LEVEL_ROWS: _takes_all,
    ONNX_CONV: _takes_all,
}
"""Family -> why it cannot take a layer, or None."""

REASONS = {
    EVENT_ROWS: "input is spikes: silent ones cost nothing",
    DENSE_ROWS: "takes any input",
    SPIKE_ROWS: "input is spikes: silent ones cost next to nothing",
    LEVEL_ROWS: "takes any input",
    ONNX_CONV: "ONNX has no sparse convolution",
}
"""Family -> why it is used where no better one is."""
