"""What optimisers get to see: a hook on every `torch.optim` optimiser, and parameter groups for those who want them.

The gradients of masks are finished right before the optimiser's step, after all backward passes, all-reduce,
unscaling and clipping. One global hook does it, so that the user's training loop needs no line of its own. An optimiser
that is not from `torch.optim` has no such hook and sees the plain straight-through gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook

from spikenm_compile.learning.attach import MASKED_LAYERS, learner_of
from spikenm_compile.learning.learner import WeightLearner

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def param_groups(model: nn.Module, lr: float, weight_decay: float) -> list[dict[str, Any]]:
    """Two parameter groups for an optimiser: the weights, and the masks' parameters without weight decay."""
    logits = {id(p) for m in model.modules() if isinstance(m, WeightLearner) for p in m.parameters()}
    parameters = list(model.parameters())
    return [
        {"params": [p for p in parameters if id(p) not in logits], "lr": lr, "weight_decay": weight_decay},
        {"params": [p for p in parameters if id(p) in logits], "lr": lr, "weight_decay": 0.0},
    ]


def prepare_masks(optimizer: Optimizer) -> None:
    """Finish the gradients of the masks whose parameters this optimiser updates, and of no others.

    A mask without parameters belongs to the optimiser of its weight.
    """
    scale: Tensor | None = getattr(optimizer, "grad_scale", None)  # a fused optimiser divides by it in its step
    for layer, learner in _masks_of(optimizer):
        assert isinstance(layer.weight, Tensor)
        learner.prepare_step(layer.weight, scale)


def _masks_of(optimizer: Optimizer) -> list[tuple[nn.Module, WeightLearner]]:
    """Masked layers in the order of the optimiser's parameters, the same in all processes."""
    parameters = (p for group in optimizer.param_groups for p in group["params"])
    place = {id(p): i for i, p in enumerate(parameters)}
    found = []
    for layer in tuple(MASKED_LAYERS):
        learner = learner_of(layer)
        if learner is not None:
            owned = next(learner.parameters(), layer.weight)
            found.append((place.get(id(owned)), layer, learner))
    mine = [(position, layer, learner) for position, layer, learner in found if position is not None]
    return [(layer, learner) for _, layer, learner in sorted(mine, key=lambda item: item[0])]


def before_step(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments | None:
    """Prepare the masks now, or, where a closure computes the gradients inside the step, after the closure."""
    position = 1  # args[0] is the optimiser
    closure = args[position] if len(args) > position else kwargs.get("closure")
    if closure is None:
        prepare_masks(optimizer)
        return None
    wrapped = _and_then_prepare(closure, optimizer)
    if len(args) > position:
        return (args[0], wrapped, *args[position + 1 :]), kwargs
    return args, {**kwargs, "closure": wrapped}


def _and_then_prepare(closure: Callable[[], Any], optimizer: Optimizer) -> Callable[[], Any]:
    def wrapped() -> Any:
        loss = closure()
        prepare_masks(optimizer)
        return loss

    return wrapped


register_optimizer_step_pre_hook(before_step)
