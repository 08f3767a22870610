"""What a value of a captured graph is with respect to time. `node` is always the value of one step, [B, ...].

A captured graph says `[T, B, ...]` or repeats a network T times; the step graph says it once. While a captured graph is
read, each of its tensors is one of these.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from torch.fx import Node


class Reduce(Enum):
    """How the values of all steps become one."""

    SUM = "sum"
    MAX = "max"


@dataclass(frozen=True)
class Static:
    """[B, ...] that does not depend on time."""

    node: Node


@dataclass(frozen=True)
class Step:
    """[B, ...] of time step `t`."""

    node: Node
    t: int


@dataclass(frozen=True)
class Sequence:
    """All steps: [T, B, ...], with time in dimension `dim`."""

    node: Node
    length: int
    dim: int = 0


@dataclass(frozen=True)
class Flat:
    """All steps in the batch dimension: [T·B, ...], time outermost."""

    node: Node
    length: int


@dataclass(frozen=True)
class Running:
    """Reduction of the values of the first `count` steps, [B, ...]."""

    node: Node
    count: int
    reduce: Reduce


@dataclass(frozen=True)
class Final:
    """[B, ...] after the last step."""

    node: Node


Value = Static | Step | Sequence | Flat | Running | Final
