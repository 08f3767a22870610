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
    """All steps in the batch dimension: [T·B, ...] with time outermost (dim 0), or [B·T, ...] with the batch (1)."""

    node: Node
    length: int
    dim: int = 0


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


@dataclass(frozen=True)
class Moved:
    """`value`, in another order of dimensions: the samples stand behind dimensions of one sample."""

    value: Static | Step | Sequence | Flat | Final
    """The same with samples in front, and time before them."""
    axes: tuple[int, ...]
    """Where each dimension comes from, see `spikenm_compile.frontend.axes`."""

    @property
    def node(self) -> Node:
        """Node of one step, [B, ...]."""
        return self.value.node


@dataclass(frozen=True)
class Layout:
    """How a multi-step module wants all steps in one tensor: a Sequence, or where `is_flat` a Flat."""

    dim: int = 0
    """Dimension of time, before the batch and time became one where `is_flat`."""
    is_flat: bool = False
    batch: int | None = None
    """B that the module splits a Flat with, where it fixes that."""
    length: int | None = None
    """T that the module splits a Flat with, where it fixes that."""

    def __str__(self) -> str:
        order = ["T", "B"] if self.dim == 0 else ["B", "T"]
        return f"[{('*' if self.is_flat else ', ').join(order)}, ...]"


@dataclass(frozen=True)
class Collected:
    """A tensor of all steps, `size` of them, into which the steps in `values` have been written so far."""

    values: tuple[Step, ...]
    size: int


Value = Static | Step | Sequence | Flat | Running | Final | Moved


def describe(value: Value) -> str:
    """A value in time, in words."""
    if isinstance(value, Step):
        return f"the value of step {value.t}"
    return {
        Static: "a value without time",
        Sequence: "a sequence",
        Flat: "a sequence flattened into the batch",
        Running: "a value summed over steps",
        Final: "a value read out after the last step",
        Moved: "a value whose samples do not stand in front",
    }[type(value)]
