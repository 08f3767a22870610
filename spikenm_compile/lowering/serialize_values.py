"""What several kinds of modules of a stored graph hold: levels and tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from spikenm_compile.errors import ArtifactError
from spikenm_compile.levels import Levels
from spikenm_compile.lowering.serialize_records import Object, Record

Arrays = Mapping[str, npt.NDArray[Any]]
"""Tensors by name: `<module>.weight`, `<module>.scale`, `<module>.bias`, `<module>.<constant>`."""


def encode_levels(levels: Levels) -> Object:
    """Levels as a JSON object."""
    return {"low": levels.low, "high": levels.high, "scale": levels.scale}


def decode_levels(record: Record) -> Levels:
    """Inverse of `encode_levels`."""
    levels = Levels(record.get("low", int), record.get("high", int), record.number("scale"))
    if levels.low > levels.high or not levels.scale > 0:
        raise ArtifactError(f"{record.where} of the stored graph has no level ({levels}); build the artifact again")
    return levels


def stored_tensor(tensors: Arrays, name: str, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    """A copy of a stored tensor."""
    if name not in tensors:
        raise ArtifactError(f"tensor '{name}' of the stored graph is missing; build the artifact again")
    tensor = torch.from_numpy(np.array(tensors[name]))
    if tensor.dtype is not dtype or tuple(tensor.shape) != shape:
        raise ArtifactError(
            f"tensor '{name}' of the stored graph is {tensor.dtype} {list(tensor.shape)}; the graph needs {dtype} "
            f"{list(shape)}; build the artifact again"
        )
    return tensor
