"""The sparsity pattern N:M: at most N non-zero weights in each group of M consecutive input channels.

A weight of shape [O, I, *kernel] is read as groups [O, *kernel, I/M, M]: one group is M consecutive input channels of
one output channel at one kernel tap. All functions here work on such weights and need no more than tensor methods, so
that this module imports nothing heavy.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spikenm_compile.errors import PatternError

if TYPE_CHECKING:
    from torch import Tensor

MAX_GROUP = 256
"""Largest M: a position in a group is stored in at most one byte."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """At most `n` non-zero weights in each group of `m` consecutive input channels.

    Raises:
        PatternError: unless 1 <= n < m <= 256.
    """

    n: int
    m: int

    def __post_init__(self) -> None:
        if not 1 <= self.n < self.m <= MAX_GROUP:
            raise PatternError(
                f"pattern '{self.n}:{self.m}' keeps {self.n} of {self.m} weights; "
                f"N:M needs 1 <= N < M <= {MAX_GROUP}, for example 2:4"
            )

    @classmethod
    def parse(cls, text: str | Pattern) -> Pattern:
        """Read `"N:M"`; a Pattern is returned as it is."""
        if isinstance(text, Pattern):
            return text
        match = re.fullmatch(r"\s*(\d+):(\d+)\s*", text)
        if match is None:
            raise PatternError(
                f"pattern {text!r} is not of the form N:M with whole numbers; write for example 2:4 or 1:8"
            )
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.n}:{self.m}"

    @property
    def density(self) -> float:
        """Largest share of weights that stays."""
        return self.n / self.m

    @property
    def index_bits(self) -> int:
        """Bits that one position inside a group takes in the metadata."""
        return (self.m - 1).bit_length()

    def divides(self, channels: int) -> bool:
        """Whether `channels` input channels split into whole groups."""
        return channels % self.m == 0

    def groups(self, weight: Tensor) -> Tensor:
        """View [O, I, *kernel] as groups [O, *kernel, I/M, M]."""
        channels_last = weight.movedim(1, -1)
        return channels_last.reshape(*channels_last.shape[:-1], -1, self.m)

    def ungroup(self, groups: Tensor) -> Tensor:
        """Inverse of `groups`: [O, *kernel, I/M, M] to [O, I, *kernel]."""
        return groups.flatten(-2).movedim(-1, 1)

    def top_n(self, scores: Tensor) -> Tensor:
        """Mask of the N largest of the last dimension (the first wins a tie), in the dtype of `scores`: [..., M]."""
        mask = scores.new_zeros(scores.shape)
        left = scores.clone()
        for _ in range(self.n):  # N argmaxes: several times quicker than topk on many small groups
            best = left.argmax(-1, keepdim=True)
            mask.scatter_(-1, best, 1.0)
            left.scatter_(-1, best, -float("inf"))
        return mask

    def project(self, weight: Tensor) -> Tensor:
        """Keep the N largest magnitudes of each group of `weight` [O, I, *kernel], zero the others."""
        return weight * self.ungroup(self.top_n(self.groups(weight.abs())))

    def most_nonzeros(self, weight: Tensor) -> int:
        """Largest number of non-zeros in any group of `weight` [O, I, *kernel]."""
        return int((self.groups(weight) != 0).sum(-1).max())

    def holds(self, weight: Tensor) -> bool:
        """Whether `weight` [O, I, *kernel] splits into whole groups with at most N non-zeros each."""
        return self.divides(weight.shape[1]) and self.most_nonzeros(weight) <= self.n
