"""Decide in which N:M form each layer's weights are stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.fx import GraphModule

from spikenm_compile.errors import PassError
from spikenm_compile.ops import IntConv2d
from spikenm_compile.passes.base import Pass
from spikenm_compile.passes.quantize_weights import QuantizeWeights
from spikenm_compile.pattern import Pattern


@dataclass(frozen=True)
class PackNMWeights(Pass):
    """Set `pattern` on each layer whose int8 weights hold it: the artifact then stores values and metadata.

    Given:
        %conv2 = IntConv2d[conv2](%spikes1) {..., pattern=dense}      at most 2 of 4 weights are not zero

    Result:
        %conv2 = IntConv2d[conv2](%spikes1) {..., pattern=2:4}

    A layer marked by `fold` is stored in the pattern it was trained in; others are tried with `pattern`. Where the
    zeros of N:M weights turn out to be staggered, N:M@stagger is set: it needs no metadata, and has own kernels.
    Errors: a marked layer whose weights no longer hold its pattern.
    """

    name: ClassVar[str] = "pack-nm-weights"
    runs_after: ClassVar[tuple[type[Pass], ...]] = (QuantizeWeights,)

    pattern: Pattern

    def apply(self, graph_module: GraphModule) -> bool:
        """Annotates modules; weights stay as they are."""
        changed = False
        for module in graph_module.modules():
            if isinstance(module, IntConv2d):
                before = (module.pattern, module.why)
                self._decide(module)
                changed |= before != (module.pattern, module.why)
        return changed

    def _decide(self, conv: IntConv2d) -> None:
        weight = conv.stored_weight()
        pattern = conv.pattern or self.pattern
        if pattern.holds(weight):
            conv.pattern, conv.why = (
                _closest(pattern, weight),
                f"at most {pattern.n} of {pattern.m} weights are not zero",
            )
            return
        if conv.pattern is not None:
            raise PassError(
                f"layer '{conv.layer}' was folded to {conv.pattern} but has up to "
                f"{pattern.most_nonzeros(weight)} non-zeros in a group; fold() leaves at most {pattern.n}, "
                f"so do not train or load weights after it"
            )
        if not pattern.divides(weight.shape[1]):
            channels = weight.shape[1]
            conv.why = (
                f"{channels} input channel{'s do' if channels > 1 else ' does'} not split into groups of {pattern.m}"
            )
        else:
            conv.why = (
                f"up to {pattern.most_nonzeros(weight)} of {pattern.m} weights are not zero: not trained as {pattern}"
            )


def _closest(pattern: Pattern, weight: Tensor) -> Pattern:
    """`pattern`, or the staggered one that the weights hold too."""
    if pattern.m % pattern.n or pattern.v > 1:
        return pattern
    staggered = Pattern(pattern.n, pattern.m, staggered=True)
    return staggered if staggered.holds(weight) else pattern
