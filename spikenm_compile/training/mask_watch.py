"""How the masks of a model move: what their learners do at a step, flips since the last look, and certainty.

    flips     |kept before, pruned now| / |kept before|
    entropy   mean over groups of -Σ p · log p / log K,   p = softmax(π)       1: anything goes, 0: decided

K is the number of things that a group chooses from: its M weights, or its candidates with the learner maskllm. Learners
without logits have no entropy.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from spikenm_compile.learning import MaskLearner, masked_layers
from spikenm_compile.learning.logits import LogitLearner, WeightLogits
from spikenm_compile.learning.sharding import whole


class MaskWatch:
    """Looks at the masks of `model` from time to time. All processes have to do it together."""

    def __init__(self, model: nn.Module) -> None:
        self._layers = {name: (layer, learner) for name, layer, learner in masked_layers(model)}
        self._kept = self._kept_now()

    @torch.no_grad()
    def look(self, step: int) -> dict[str, Any]:
        """What the log says about masks at `step`; empty where nothing is masked."""
        if not self._layers:
            return {}
        before, self._kept = self._kept, self._kept_now()
        schedule = next(iter(self._layers.values()))[1].options.schedule
        with_logits = {name: m for name, (_, m) in self._layers.items() if isinstance(m, LogitLearner)}
        return {
            "sigma": schedule.sigma(step),
            "eid_weight": schedule.eid_weight(step),
            "flips": {name: share_lost(kept, self._kept[name]) for name, kept in before.items()},
            "entropy": {name: entropy(learner) for name, learner in with_logits.items()},
        }

    def _kept_now(self) -> dict[str, Tensor]:
        return {name: kept_weights(layer, learner) for name, (layer, learner) in self._layers.items()}


def kept_weights(layer: nn.Module, learner: MaskLearner) -> Tensor:
    """Which weights would stay if the masks were folded now: bool."""
    assert isinstance(layer.weight, Tensor)
    return learner.harden(whole(layer.weight.detach())).bool()


def share_lost(before: Tensor, now: Tensor) -> float:
    """Share of the weights kept before that are pruned now."""
    return float((before & ~now).sum() / before.sum().clamp_min(1))


def entropy(learner: LogitLearner) -> float:
    """Mean entropy of softmax(π) over the groups, 1 where everything is equally likely."""
    logits = whole(learner.logits.detach())
    choices = learner.pattern.groups(logits) if isinstance(learner, WeightLogits) else logits
    shares = (learner.options.schedule.logit_rate * choices).log_softmax(-1)
    return float(-(shares.exp() * shares).sum(-1).mean() / math.log(choices.shape[-1]))
