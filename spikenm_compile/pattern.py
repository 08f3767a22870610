"""Sparsity patterns N:M: at most N non-zero weights in each group of M consecutive input channels.

A weight of shape [O, I, *kernel] is read as groups [O, *kernel, I/M, M]: one group is M consecutive input channels of
one output channel at one kernel tap. Two kinds of pattern say more than N:M:

    V:N:M          V consecutive output channels, a slab, share one mask; the last slab is smaller where V does not
                   divide O. N:M is 1:N:M.
    N:M@stagger    a fixed mask. With K = M/N, output o in slab s = o·K // O, tap t (its index in the kernel, row by
                   row; 0 of a linear layer) and group g keep member j exactly where (j - t - g - s) mod K = 0

All functions here work on such weights and need no more than tensor methods, so that this module imports nothing heavy.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spikenm_compile.errors import PatternError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

MAX_GROUP = 256
"""Largest M: a position in a group is stored in at most one byte."""

RANKED_GROUP = 16
"""Largest M whose members are compared each with each."""

STAGGER = "@stagger"

_FORM = re.compile(rf"\s*(?:(\d+):)?(\d+):(\d+)({STAGGER})?\s*")


@dataclass(frozen=True, slots=True)
class Pattern:
    """At most `n` non-zero weights in each group of `m` consecutive input channels.

    `v` consecutive outputs share their mask. A `staggered` pattern says which members stay.

    Raises:
        PatternError: unless 1 <= n < m <= 256 and 1 <= v; staggered: unless n divides m and v is 1.
    """

    n: int
    m: int
    v: int = 1
    staggered: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.n < self.m <= MAX_GROUP:
            raise PatternError(
                f"pattern '{self}' keeps {self.n} of {self.m} weights; "
                f"N:M needs 1 <= N < M <= {MAX_GROUP}, for example 2:4"
            )
        if self.v < 1:
            raise PatternError(
                f"pattern '{self}' shares a mask by {self.v} outputs; V is at least 1, for example 4:2:4"
            )
        if self.staggered and (self.m % self.n or self.v != 1):
            raise PatternError(
                f"pattern '{self}' cannot be staggered; N must divide M and its slabs have a size of their own, so "
                "write for example 2:8@stagger"
            )

    @classmethod
    def parse(cls, text: str | Pattern) -> Pattern:
        """Read `"N:M"`, `"V:N:M"` or `"N:M@stagger"`; a Pattern is returned as it is."""
        if isinstance(text, Pattern):
            return text
        match = _FORM.fullmatch(text)
        if match is None:
            raise PatternError(
                f"pattern {text!r} is not of the form N:M with whole numbers; write for example 2:4 or 1:8, "
                "4:2:4 for masks that 4 outputs share, or 2:8@stagger for a fixed mask"
            )
        return cls(int(match[2]), int(match[3]), int(match[1] or 1), match[4] is not None)

    def __str__(self) -> str:
        shared = "" if self.v == 1 else f"{self.v}:"
        return f"{shared}{self.n}:{self.m}" + (STAGGER if self.staggered else "")

    @property
    def plain(self) -> Pattern:
        """N:M alone, which every weight that holds this pattern holds too."""
        return Pattern(self.n, self.m)

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

    def slabs(self, weight: Tensor) -> Tensor:
        """[O, I, *kernel] as slabs [O/V, V, I, *kernel]; zeros fill up the last slab where V does not divide O."""
        short = -weight.shape[0] % self.v
        if short:
            padded = weight.new_zeros(weight.shape[0] + short, *weight.shape[1:])
            padded[: weight.shape[0]] = weight
            weight = padded
        return weight.reshape(-1, self.v, *weight.shape[1:])

    def spread(self, slabs: Tensor, outputs: int) -> Tensor:
        """One value for each slab, [O/V, I, *kernel], to each of its `outputs`: [O, I, *kernel]."""
        return slabs if self.v == 1 else slabs.repeat_interleave(self.v, 0)[:outputs]

    def slab_norm(self, weight: Tensor) -> Tensor:
        """Magnitude of what V outputs of `weight` [O, I, *kernel] have in common: L2 norm, [O/V, I, *kernel]."""
        return weight.abs() if self.v == 1 else self.slabs(weight).square().sum(1).sqrt()

    def top_n(self, scores: Tensor) -> Tensor:
        """Mask of the N largest of the last dimension (the first wins a tie), in the dtype of `scores`: [..., M]."""
        return self._top_by_rank(scores) if self.m <= RANKED_GROUP else self._top_by_argmax(scores)

    def _top_by_rank(self, scores: Tensor) -> Tensor:
        """Count for each member how many are ahead of it.

        Members first, so that comparisons run over all groups at once: many times quicker than a reduction of M
        neighbours. Counts are kept in the dtype of `scores`, because comparisons into bool are several times slower.
        """
        members = scores.movedim(-1, 0).contiguous()
        ahead = members.new_zeros(members.shape)
        for j in range(self.m):
            ahead[j] = j  # as if all before it were ahead
        for distance in range(1, self.m):
            overtakes = members[distance:].clone().gt_(members[:-distance])
            ahead[distance:] -= overtakes
            ahead[:-distance] += overtakes
        return ahead.lt_(self.n).movedim(0, -1)

    def _top_by_argmax(self, scores: Tensor) -> Tensor:
        mask = scores.new_zeros(scores.shape)
        left = scores.clone()
        for _ in range(self.n):
            best = left.argmax(-1, keepdim=True)
            mask.scatter_(-1, best, 1.0)
            left.scatter_(-1, best, -float("inf"))
        return mask

    def mask_of(self, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
        """The mask of a staggered pattern on a weight of `shape` [O, I, *kernel].

        Raises:
            PatternError: the pattern is not staggered, or the weight does not split into groups.
        """
        import numpy as np

        if not self.staggered or not self.divides(shape[1]):
            raise PatternError(
                f"pattern {self} gives no mask for a weight of shape {list(shape)}; a staggered one does, for input "
                "channels in whole groups, for example 2:8@stagger"
            )
        outputs, inputs, *kernel = shape
        classes = self.m // self.n
        slab = (np.arange(outputs) * classes // outputs).reshape(-1, 1, 1)
        group, member = (a.reshape(1, -1, 1) for a in np.divmod(np.arange(inputs), self.m))
        tap = np.arange(math.prod(kernel)).reshape(1, 1, -1)
        kept: npt.NDArray[np.bool_] = (member - tap - group - slab) % classes == 0
        return kept.reshape(shape)

    def project(self, weight: Tensor) -> Tensor:
        """Keep the N largest magnitudes of each group of `weight` [O, I, *kernel], zero the others.

        Shared: those of the largest L2 norm in the slab. Staggered: those of the fixed mask.
        """
        return weight * self.magnitude_mask(weight)

    def magnitude_mask(self, weight: Tensor) -> Tensor:
        """What `project` keeps, as 0.0 and 1.0 in shape and dtype of `weight`."""
        if self.staggered:
            return weight.new_tensor(self.mask_of(tuple(weight.shape)))
        return self.spread(self.ungroup(self.top_n(self.groups(self.slab_norm(weight)))), weight.shape[0])

    def most_nonzeros(self, weight: Tensor) -> int:
        """Largest number of non-zeros in any group of `weight` [O, I, *kernel].

        Shared: of members that any output of the slab uses. Staggered: a group that uses another member counts M.
        """
        used = weight != 0
        if self.staggered:
            beside = used & ~weight.new_tensor(self.mask_of(tuple(weight.shape))).bool()
            return self.m if bool(beside.any()) else int(self.groups(used).sum(-1).max())
        return int(self.groups(self.slabs(used).any(1)).sum(-1).max())

    def holds(self, weight: Tensor) -> bool:
        """Whether `weight` [O, I, *kernel] splits into whole groups with at most N non-zeros each, at legal places."""
        return self.divides(weight.shape[1]) and self.most_nonzeros(weight) <= self.n
