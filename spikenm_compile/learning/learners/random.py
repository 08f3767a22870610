"""A fixed random mask: what the others have to beat.

N members of each group with equal probability; V outputs of a slab draw together.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from spikenm_compile.learning.mask import MaskLearner
from spikenm_compile.learning.options import LearnerName, MaskOptions
from spikenm_compile.learning.sampling import gumbel, hard_mask


class RandomMask(MaskLearner):
    """`kept` is the mask, a function of the seed and the layer's name."""

    name: ClassVar[LearnerName] = "random"
    is_fixed: ClassVar[bool] = True

    kept: Tensor

    def start(self, weight: Tensor) -> None:
        """Draw the mask, on the CPU: the same on every device."""
        pattern = self.pattern
        slabs = torch.empty(-(-len(weight) // pattern.v), *weight.shape[1:])
        drawn = hard_mask(gumbel(slabs, f"{self.options.seed}/{self.layer}/mask"), pattern)
        self.register_buffer("kept", pattern.spread(drawn, len(weight)).bool().to(weight.device))

    @classmethod
    def describe(cls, options: MaskOptions) -> str:
        """One line for the user."""
        return f"masks are random and fixed, seed {options.seed}"

    def sample(self, weight: Tensor, step: int) -> Tensor:
        """The mask."""
        return self.kept.to(weight.dtype)

    def harden(self, weight: Tensor) -> Tensor:
        """The mask."""
        return self.kept.to(weight.dtype)
