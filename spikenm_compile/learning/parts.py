"""Weights in parts that fit a processor's cache: equations of many passes read and write memory once.

A part is a run of whole rows (outputs) of tensors of one shape [O, I, *kernel]. Its groups are [O, I/M, *kernel, M],
like those of `Pattern.groups` but for the place of I/M. They are copied members first, so that sums and comparisons
over M members run over long rows instead of M neighbours. Equations over groups [..., M] hold for parts as for wholes.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from spikenm_compile.pattern import Pattern

PART = 2**16
"""Numbers in a part, for each thread: some tensors of this size fit the cache of one core. Even."""


def part_rows(tensor: Tensor) -> int:
    """Rows of a part of `tensor`: all of them on a GPU, where few large kernels are quicker, and in compiled graphs."""
    if tensor.device.type != "cpu" or torch.compiler.is_compiling():
        return max(1, len(tensor))
    return max(1, PART * torch.get_num_threads() * len(tensor) // max(1, tensor.numel()))


def parts(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The same rows of each of `tensors`, as views, part after part; all have the shape of the first."""
    rows = part_rows(tensors[0])
    return zip(*(torch.split(tensor, rows) for tensor in tensors), strict=True)


def grouped(part: Tensor, pattern: Pattern) -> Tensor:
    """View [O, I, *kernel] as groups [O, I/M, *kernel, M]."""
    outputs, inputs, *kernel = part.shape
    return part.view(outputs, inputs // pattern.m, pattern.m, *kernel).movedim(2, -1)


def members_first(part: Tensor, pattern: Pattern) -> Tensor:
    """A copy of the groups of `part`, in the same shape, with the members of all groups M rows in memory."""
    return grouped(part, pattern).movedim(-1, 0).contiguous().movedim(0, -1)
