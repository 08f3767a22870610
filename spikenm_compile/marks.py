"""What `fold` leaves on a layer for those who build it; passes that make a new layer of it hand the marks on."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from spikenm_compile.weight_types import WeightType

PATTERN = "nm_pattern"
"""The pattern that the weights hold."""
WEIGHT_TYPE = "nm_weight_type"
"""The whole numbers that they were trained as (weight_types)."""
WEIGHT_SCALE = "nm_weight_scale"
"""Float64 [O], the grid of a weight that is a part of a larger one, whose largest values may be in the other part."""


def copy_marks(source: nn.Module, target: nn.Module) -> None:
    """Give `target` the marks of `source`."""
    for mark in (PATTERN, WEIGHT_TYPE, WEIGHT_SCALE):
        if hasattr(source, mark):
            setattr(target, mark, getattr(source, mark))


def trained_type(layer: nn.Module) -> WeightType | None:
    """The whole numbers that the weights of `layer` were trained as, None: floats."""
    return cast("WeightType | None", getattr(layer, WEIGHT_TYPE, None))


def trained_scale(layer: nn.Module) -> Tensor | None:
    """The scale that the weights of `layer` were trained with, None: the one that they have by themselves."""
    return cast("Tensor | None", getattr(layer, WEIGHT_SCALE, None))
