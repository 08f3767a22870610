"""Telling masks the loss, for learners that need its value and not its gradient alone."""

from __future__ import annotations

from torch import Tensor, nn

from spikenm_compile.learning.mask import MaskLearner
from spikenm_compile.learning.sharding import mean_over_processes


def tell_loss(model: nn.Module, loss: Tensor) -> None:
    """Tell the masks of `model` the loss (a scalar, not scaled) of a backward pass, before `optimizer.step()`.

    Learners that have no use for it let it go. Parts of a batch that are accumulated are told one by one. In a
    distributed training all processes call it, and masks hear the mean, so that they stay the same everywhere.
    """
    learners = [m for m in model.modules() if isinstance(m, MaskLearner) and m.training]
    if not any(learner.needs_loss for learner in learners):
        return
    heard = mean_over_processes(loss.detach().clone())
    for learner in learners:
        learner.hear_loss(heard)
