"""The ways to understand the input of a model in time: which of its dimensions is time, if any."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from spikenm_compile.frontend.adapters import is_multi_step, is_neuron, layout
from spikenm_compile.frontend.values import Flat, Layout, Sequence, Static, Value

LAYOUT = "layout"
"""Key of a step graph's `meta`: where the input of the model that was lifted has time, None: nowhere."""


@dataclass(frozen=True)
class Reading:
    """One way. `step` is the input of one step, [B, ...]."""

    step: Tensor
    layout: Layout | None = None
    """Where time is; None: the input is the same at each step."""
    length: int | None = None
    """T; None where the input does not say it."""

    @property
    def per_step(self) -> bool:
        """Whether the input has another value at each step."""
        return self.layout is not None

    def value(self, node: Node) -> Value:
        """The input in time; `node` is that of one step."""
        if self.layout is None or self.length is None:
            return Static(node)
        if self.layout.is_flat:
            return Flat(node, self.length, self.layout.dim)
        return Sequence(node, self.length, self.layout.dim)


def readings(captured: GraphModule, example: Tensor) -> Iterator[Reading]:
    """What the example may be, likeliest first: as the neurons take it, [T, B, ...], without time, [B, T, ...]."""
    nodes = captured.graph.find_nodes(op="call_module", sort=False)
    modules = [captured.get_submodule(str(node.target)) for node in nodes]
    layouts = dict.fromkeys(layout(m) for m in modules if is_neuron(m) and is_multi_step(m))
    may_be = example.dim() > 2 and example.shape[1] > 0
    batch_first = [Reading(example.select(1, 0), Layout(dim=1), example.shape[1])] if may_be else []
    if any(found.dim == 1 for found in layouts):
        yield from batch_first
    for found in layouts:
        if found.is_flat and (batch := flat_batch(found, example.shape[0])) is not None:
            flat = Layout(dim=1, is_flat=True, length=example.shape[0] // batch)
            yield Reading(steps_first(flat, example)[0], flat, flat.length)
    yield Reading(example[0], Layout(), example.shape[0])
    yield Reading(example)
    yield from batch_first  # the model itself moves time to where its neurons take it


def steps_first(layout: Layout | None, x: Tensor) -> Tensor:
    """An input of the model, laid out like that, as its step graph takes it: [T, B, ...], or [B, ...] without time."""
    if layout is None or layout.dim == 0:
        return x
    batch_first = torch.unflatten(x, 0, (-1, layout.length or 1)) if layout.is_flat else x
    return batch_first.transpose(0, 1)


def flat_batch(found: Layout, size: int) -> int | None:
    """B of a dimension of `size` = B·T as a module of this layout splits it; None where it cannot."""
    batch = found.batch if found.batch is not None else size // (found.length or 1)
    if batch == 0 or size % batch or (found.length is not None and batch * found.length != size):
        return None
    return batch
