"""ASP: train dense, prune the smallest weights once, train on with the mask that stands.

    h = 1                                                  before the share `dense_share` of the training
    h = top N of |w| (V > 1: of the slab's L2 norm)       once, then fixed

Source: the recipe "dense, one-shot magnitude, fine-tune" of Mishra et al., "Accelerating Sparse Deep Neural Networks",
2021, and of NVIDIA's library of that name. There a whole second training follows; here both halves share one budget. A
learning rate that starts again at the switch helps.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from spikenm_compile.learning.mask import MaskLearner
from spikenm_compile.learning.options import LearnerName, MaskOptions


class ASP(MaskLearner):
    """`kept` is the mask once it `is_chosen`. Evaluation before that prunes as the choice would at this moment."""

    name: ClassVar[LearnerName] = "asp"
    is_fixed: ClassVar[bool] = True

    kept: Tensor
    is_chosen: Tensor

    def start(self, weight: Tensor) -> None:
        """Register the mask."""
        self.register_buffer("kept", torch.ones_like(weight, dtype=torch.bool, requires_grad=False))
        self.register_buffer("is_chosen", torch.zeros((), dtype=torch.bool, device=weight.device))

    @classmethod
    def describe(cls, options: MaskOptions) -> str:
        """One line for the user."""
        steps = options.schedule.total_steps
        if steps is None:
            return "trains dense until fold prunes; give total_steps so that training goes on after the pruning"
        return f"trains dense for {options.dense_share:.0%} of {steps} steps, then prunes the smallest weights once"

    def sample(self, weight: Tensor, step: int) -> Tensor:
        """All ones in the dense phase; the first sample after it chooses."""
        if not self.is_chosen and self.options.schedule.progress(step) >= self.options.dense_share:
            self._choose(weight)
        return self.kept.to(weight.dtype)

    def harden(self, weight: Tensor) -> Tensor:
        """What was chosen, or would be chosen now."""
        chosen, magnitude = self.kept.to(weight.dtype), self.pattern.magnitude_mask(weight.detach())
        return torch.where(self.is_chosen, chosen, magnitude)

    def _choose(self, weight: Tensor) -> None:
        self.kept.copy_(self.pattern.magnitude_mask(weight.detach()).bool())
        self.is_chosen.fill_(True)
