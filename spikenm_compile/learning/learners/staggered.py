"""The staggered mask (pattern.py): fixed, without storage, and the same number of weights for every spike.

Derived in this project. Each input channel has one residue class, taps and slabs rotate through the classes, so that a
kernel that walks spikes adds one contiguous row of O · N/M weights for each spike and tap.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from spikenm_compile.learning.mask import MaskLearner
from spikenm_compile.learning.options import LearnerName, MaskOptions


class Staggered(MaskLearner):
    """Computes its mask from the pattern; takes staggered patterns only."""

    name: ClassVar[LearnerName] = "staggered"
    is_fixed: ClassVar[bool] = True

    kept: Tensor

    def start(self, weight: Tensor) -> None:
        """Compute the mask."""
        kept = torch.from_numpy(self.pattern.mask_of(tuple(weight.shape))).to(weight.device)
        self.register_buffer("kept", kept, persistent=False)

    @classmethod
    def describe(cls, options: MaskOptions) -> str:
        """One line for the user."""
        return "masks are staggered and fixed"

    def sample(self, weight: Tensor, step: int) -> Tensor:
        """The mask."""
        return self.kept.to(weight.dtype)

    def harden(self, weight: Tensor) -> Tensor:
        """The mask."""
        return self.kept.to(weight.dtype)
