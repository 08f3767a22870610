"""Masks into weights: W ← W · h, rounded where it was trained so, and the model is an ordinary one again."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spikenm_compile.errors import PatternError
from spikenm_compile.learning.attach import detach_mask, learning_layers
from spikenm_compile.learning.mask import MaskLearner


@torch.no_grad()
def fold_masks(model: nn.Module) -> nn.Module:
    """Make every mask exact zeros in the weight and take the learners away, in place.

    Classes, children and state_dict keys are what they were before `transform`; a folded layer keeps its pattern and
    the whole numbers that it was trained as (marks). The output in evaluation mode does not change by a bit.

    Returns:
        `model` itself.

    Raises:
        PatternError: the model has no masks, or a weight would break its pattern.
    """
    layers = list(learning_layers(model))
    if not layers:
        raise PatternError("the model has no masks to fold; fold() takes a model that transform() has made, once")
    for name, layer, learner in layers:
        weight = layer.weight
        assert isinstance(weight, Tensor)
        if not isinstance(learner, MaskLearner):
            continue
        folded = learner.folded(weight)
        if not learner.pattern.holds(folded):
            raise PatternError(
                f"layer '{name}' has {learner.pattern.most_nonzeros(folded)} non-zeros in a group because its weights "
                f"are not all finite; {learner.pattern} allows {learner.pattern.n}; train with a smaller learning rate"
            )
    for _, layer, learner in layers:
        assert isinstance(layer.weight, Tensor)
        facts = learner.facts(layer.weight)
        layer.weight.copy_(learner.folded(layer.weight))
        detach_mask(layer)
        for attribute, fact in facts.items():
            setattr(layer, attribute, fact)
    return model
