"""How the masks of a model move: what their learners do at a step, flips since the last look, and certainty.

flips     |kept before, pruned now| / |kept before|
entropy   mean over groups of -Σ p · log p / log M,   p = softmax(π)       1: anything goes, 0: decided
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from spikenm_compile.learning import MaskLearner, masked_layers


class MaskWatch:
    """Looks at the masks of `model` from time to time; of sharded ones at the share that is here."""

    def __init__(self, model: nn.Module) -> None:
        self._learners = {name: learner for name, _, learner in masked_layers(model)}
        self._kept = {name: kept_weights(learner) for name, learner in self._learners.items()}

    @torch.no_grad()
    def look(self, step: int) -> dict[str, Any]:
        """What the log says about masks at `step`; empty where nothing is masked."""
        if not self._learners:
            return {}
        before = self._kept
        self._kept = {name: kept_weights(learner) for name, learner in self._learners.items()}
        schedule = next(iter(self._learners.values())).options.schedule
        return {
            "sigma": schedule.sigma(step),
            "eid_weight": schedule.eid_weight(step),
            "flips": {name: share_lost(kept, self._kept[name]) for name, kept in before.items()},
            "entropy": {name: entropy(learner) for name, learner in self._learners.items()},
        }


def kept_weights(learner: MaskLearner) -> Tensor:
    """Which weights the mask keeps now, without noise: bool."""
    return learner.final_mask().bool()


def share_lost(before: Tensor, now: Tensor) -> float:
    """Share of the weights kept before that are pruned now."""
    return float((before & ~now).sum() / before.sum().clamp_min(1))


def entropy(learner: MaskLearner) -> float:
    """Mean entropy of softmax(π) over the groups, 1 where all weights of a group are equally likely."""
    logits = learner.logits
    local = logits.to_local() if isinstance(logits, DTensor) else logits
    shares = (learner.options.schedule.logit_rate * learner.pattern.groups(local)).log_softmax(-1)
    return float(-(shares.exp() * shares).sum(-1).mean() / math.log(learner.pattern.m))
