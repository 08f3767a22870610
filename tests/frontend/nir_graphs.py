"""NIR graphs written by hand, node by node, and small models to write as graphs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn

from spikenm_compile.neurons import LIF

nir: Any = pytest.importorskip("nir")

DT = 1e-4
"""Time step in seconds."""


def full(value: float, *shape: int) -> Any:
    return np.full(shape, value)


def unit_if(*shape: int) -> Any:
    return nir.IF(r=full(1 / DT, *shape), v_threshold=full(1.0, *shape), v_reset=full(0.0, *shape))


def chain(*nodes: Any, size: int = 4, metadata: dict[str, Any] | None = None) -> Any:
    names = {str(i): node for i, node in enumerate(nodes)}
    ends = {"input": nir.Input(np.array([size])), **names, "output": nir.Output(np.array([size]))}
    edges = list(zip([*ends][:-1], [*ends][1:], strict=True))
    return nir.NIRGraph(ends, edges, metadata=metadata or {}, type_check=False)


def through_a_file(graph: Any, tmp_path: Path) -> Path:
    nir.write(tmp_path / "graph.nir", graph)
    return tmp_path / "graph.nir"


def plain(neuron_layer: nn.Module | None = None) -> nn.Module:
    return nn.Sequential(Steps(nn.Conv2d(1, 3, 3, padding=1)), neuron_layer or LIF(2.0))


class Steps(nn.Module):
    """A layer on each step of [T, B, ...]."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.module(x.flatten(0, 1))
        return y.reshape(x.shape[0], x.shape[1], *y.shape[1:])
