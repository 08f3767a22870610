"""Real inputs to whole numbers, so that the first layer too is exact integer arithmetic on every machine.

    level = round(x / scale), saturated to 0..255 (no negative value seen) or -128..127

`scale` comes from calibration data. Where all of it lies on a power-of-two grid (pixels in sixteenths, event counts)
the scale is that grid and nothing is lost; otherwise it is max|x| / 255 or / 127.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from spikenm_compile.errors import InputError
from spikenm_compile.graph import LEVELS, PER_STEP, REGION, SHAPE, Region, add_module, clean_up, module_of, the_input
from spikenm_compile.ops import Levels, QuantizeInput
from spikenm_compile.passes.base import Pass
from spikenm_compile.passes.hoist_time_invariant import HoistTimeInvariant

FINEST_GRID = 8
"""Finest power-of-two grid tried is 2^-8."""


def choose_levels(x: Tensor) -> Levels:
    """Levels that cover the calibration data `x`, of any shape.

    Raises:
        InputError: no values, or values that are not finite.
    """
    x = x.detach().double()
    if x.numel() == 0 or not bool(torch.isfinite(x).all()):
        raise InputError("calibration data must hold at least one value and only finite ones; check the input pipeline")
    low, high = (0, 255) if bool((x >= 0).all()) else (-128, 127)
    largest = float(x.abs().max())
    for k in range(FINEST_GRID + 1):
        on_grid = x * 2.0**k
        if bool((on_grid == on_grid.round()).all()) and float(on_grid.max()) <= high and float(on_grid.min()) >= low:
            return Levels(low, high, 2.0**-k)
    # float32, because that is what every target divides by
    return Levels(low, high, float(torch.tensor(largest / high, dtype=torch.float32)))


@dataclass(frozen=True)
class QuantizeInputs(Pass):
    """Insert the quantiser between the input, reshaped or not, and the convolutions that read it.

    Given:
        before:
          %conv1 = Conv2d[conv1](%x)

    Result:
        before:
          %quantize = QuantizeInput[quantize](%x)  # 0..255 × 0.0625
          %conv1 = Conv2d[conv1](%quantize)

    Declines: other readers, such as a neuron or a join; they read the real input.
    """

    name: ClassVar[str] = "quantize-inputs"
    runs_after: ClassVar[tuple[type[Pass], ...]] = (HoistTimeInvariant,)

    levels: Levels

    def apply(self, graph_module: GraphModule) -> bool:
        """One node behind each form of the input that a convolution reads."""
        places = [(source, readers) for source in _forms(graph_module) if (readers := _readers(graph_module, source))]
        for source, readers in places:
            self._insert(graph_module, source, readers)
        if places:
            clean_up(graph_module)
        return bool(places)

    def _insert(self, graph_module: GraphModule, source: Node, readers: list[Node]) -> None:
        name = add_module(graph_module, "quantize", QuantizeInput(self.levels))
        with graph_module.graph.inserting_after(source):
            node = graph_module.graph.call_module(name, (source,))
        for reader in readers:
            reader.replace_input_with(source, node)
        region = Region.STEP if the_input(graph_module).meta[PER_STEP] else Region.BEFORE
        node.meta = {REGION: region, SHAPE: source.meta[SHAPE], LEVELS: self.levels}


def _forms(graph_module: GraphModule) -> list[Node]:
    """The input, and what is nothing but the input reshaped."""
    forms = [the_input(graph_module)]
    for node in graph_module.graph.nodes:
        if isinstance(module_of(graph_module, node), nn.Flatten | nn.Unflatten) and node.args[0] in forms:
            forms.append(node)
    return forms


def _readers(graph_module: GraphModule, source: Node) -> list[Node]:
    return [user for user in source.users if isinstance(module_of(graph_module, user), nn.Conv2d)]
