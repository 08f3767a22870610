"""SR-STE: the mask follows the weights' magnitudes, and pruned weights are pulled to zero.

    h = top N of |w| (V > 1: of the slab's L2 norm)       drawn anew in each step
    ∂L/∂w = G + λ · (1 - h) · w                            dense straight-through, sparse-refined

Source: Zhou et al., "Learning N:M Fine-grained Structured Sparse Neural Networks From Scratch", ICLR 2021 (SR-STE,
λ = 2e-4; without the decay it is the plain straight-through estimator). The slab norm is ours. λ(1-h)w is added once
per optimiser step, whatever the number of backward passes.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from spikenm_compile.learning.mask import MaskLearner
from spikenm_compile.learning.options import LearnerName, MaskOptions
from spikenm_compile.learning.sampling import hard_mask_
from spikenm_compile.learning.sharding import local, rows_of, whole
from spikenm_compile.pattern import Pattern


class SRSTE(MaskLearner):
    """Has no parameters: steps with the optimiser of the weight."""

    name: ClassVar[LearnerName] = "sr-ste"

    @classmethod
    def describe(cls, options: MaskOptions) -> str:
        """One line for the user."""
        follow = f"masks follow the weights' magnitudes in each step; pruned weights decay by {options.pruned_decay:g}"
        return f"{follow}{options.schedule.describe_ramp()}"

    def sample(self, weight: Tensor, step: int) -> Tensor:
        """The largest magnitudes."""
        pattern = self.pattern_at(step)
        if pattern is None:
            return torch.ones_like(weight, requires_grad=False)
        return _largest(weight.detach(), pattern)

    def harden(self, weight: Tensor) -> Tensor:
        """The largest magnitudes."""
        return _largest(weight.detach(), self.pattern)

    def finish_gradients(self, weight: Tensor, step: int, scale: Tensor | None) -> None:
        """Add the decay of what is pruned."""
        if weight.grad is None or self.options.pruned_decay == 0.0:
            return
        pruned = self.mask_in_use(weight).neg_().add_(1.0)
        decay = pruned.mul_(whole(weight.detach())).mul_(self.options.pruned_decay)
        local(weight.grad).add_(rows_of(decay if scale is None else decay * scale, weight))


def _largest(weight: Tensor, pattern: Pattern) -> Tensor:
    """`pattern.magnitude_mask(weight)`, part by part."""
    return pattern.spread(hard_mask_(pattern.slab_norm(weight), pattern), len(weight))
