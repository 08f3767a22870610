"""Weights of a layer as constant rows: what one input event adds to the sums of all output channels of its group.

    dense row     [⌈tap, input channel⌉][O/groups] int8, every weight
    sparse row    one bit per weight that says whether it is not zero, and those that are not: an N:M layer takes
                  N/M + 1/8 bytes per weight and adds N of M

Rows are constants: a microcontroller reads them from flash, and nothing is expanded into RAM.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from spikenm_compile.ops import IntConv2d

Rows = Literal["auto", "dense", "sparse"]
"""How weights are stored; auto: whichever form of a layer is smaller."""


@dataclass(frozen=True)
class SparseRows:
    """Rows without their zeros."""

    values: npt.NDArray[np.int8]
    """Weights that are not zero, row after row."""
    kept: npt.NDArray[np.uint8]
    """[rows][⌈O/groups / 8⌉], output o is bit o % 8."""
    first: npt.NDArray[np.uint32]
    """[rows] where the values of a row start."""

    @property
    def is_long(self) -> bool:
        """Whether 16 bits do not hold where the rows start."""
        return bool(self.first[-1] >= 2**16)

    @property
    def num_bytes(self) -> int:
        """Size of all three."""
        return self.values.nbytes + self.kept.nbytes + len(self.first) * (4 if self.is_long else 2)


def dense_rows(conv: IntConv2d) -> npt.NDArray[np.int8]:
    """Rows [taps · C, O/groups] int8; C counts the input channels of all groups."""
    weight = conv.weight.numpy()
    outputs, inputs, height, width = weight.shape
    by_group = weight.reshape(conv.groups, outputs // conv.groups, inputs, height * width)
    return np.ascontiguousarray(by_group.transpose(3, 0, 2, 1)).reshape(-1, outputs // conv.groups)


def sparse_rows(rows: npt.NDArray[np.int8]) -> SparseRows:
    """The same rows without their zeros."""
    is_kept = rows != 0
    counts = is_kept.sum(axis=1, dtype=np.uint32)
    first = np.concatenate([np.zeros(1, np.uint32), np.cumsum(counts, dtype=np.uint32)[:-1]])
    return SparseRows(rows[is_kept], np.packbits(is_kept, axis=1, bitorder="little"), first)


def choose_rows(conv: IntConv2d, form: Rows) -> npt.NDArray[np.int8] | SparseRows:
    """Rows of a layer in the form that was asked for."""
    rows = dense_rows(conv)
    if form == "dense":
        return rows
    sparse = sparse_rows(rows)
    return sparse if form == "sparse" or sparse.num_bytes < rows.nbytes else rows
