"""What stands between a layer's weight and its operation while the model trains: a child `mask` of the layer.

    forward    w̃ = the weight, masked by a MaskLearner, rounded in the frozen tail and in evaluation; ∂L/∂w as if not
    rounded    q · s, the whole numbers that lowering stores (weight_types), where `options.weight_type` names some
    output     the layer's operation on w̃ (`operate`: a learner with more than one weight applies it more than once)
    fold       w ← w̃ of evaluation (`folded`), so that lowering finds the very q that the tail was trained with
    before the optimiser's step, once: prepare_step

What is not linear in the gradients of a step's backward passes waits for `prepare_step`, which sees their sum.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from spikenm_compile.learning.options import MaskOptions
from spikenm_compile.marks import WEIGHT_TYPE
from spikenm_compile.weight_types import WEIGHT_TYPES, WeightType, round_weight, weight_scale

Operation = Callable[[Tensor, Tensor | None], Tensor]
"""(weight, bias) -> output of a layer for the input that it has been called with."""


class WeightLearner(nn.Module, ABC):
    """Turns the weight [O, I, *kernel] of one layer into the one that is deployed.

    Args:
        weight: the weight.
        options: how.
        layer: name of the layer.

    Everything that a resumed training needs is in the state_dict. `step` counts optimiser steps; `largest` is the
    largest magnitude of the whole numbers that the weight is trained as, None where it stays a float.
    """

    needs_loss: ClassVar[bool] = False
    """Whether `hear_loss` has to be called for each backward pass."""

    step: Tensor
    largest: Tensor | None

    def __init__(self, weight: Tensor, options: MaskOptions, layer: str) -> None:
        super().__init__()
        self.options = options
        self.layer = layer
        self.start(weight.detach())
        self.register_buffer("step", torch.zeros((), dtype=torch.int64, device=weight.device))
        kind = options.weight_type
        self.register_buffer("largest", None if kind is None else torch.tensor(WEIGHT_TYPES[kind]).to(weight.device))
        self._scale: tuple[object, Tensor] | None = None

    def start(self, weight: Tensor) -> None:
        """Register parameters and buffers for `weight`."""

    @abstractmethod
    def forward(self, weight: Tensor) -> Tensor:
        """The weight w̃ that the layer computes with."""

    @abstractmethod
    def folded(self, weight: Tensor) -> Tensor:
        """The weight that evaluation uses, and that `fold` leaves behind."""

    def facts(self, weight: Tensor) -> dict[str, object]:
        """What a folded layer keeps of the learner of its `weight`: attributes by name."""
        kind = self.options.weight_type
        return {} if kind is None else {WEIGHT_TYPE: kind}

    def operate(self, operation: Operation, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Output of the layer whose `weight` this learner has."""
        return operation(self(weight), bias)

    def finish_gradients(self, weight: Tensor, step: int, scale: Tensor | None) -> None:
        """Make the gradients what the optimiser shall see. Those of a sum of backward passes are there.

        Args:
            weight: the layer's weight with its gradient; maybe the shard of one process (learning.sharding).
            step: optimiser steps before this one.
            scale: what all gradients are multiplied by, where the optimiser itself divides by it; None: by nothing.
        """

    @property
    def counts_events(self) -> bool:
        """Whether `hear_events` has to be called in each backward pass."""
        return False

    def hear_events(self, amount: Tensor) -> None:
        """Events of a backward pass (learning.events) in the shape of the weight: |w| · E."""

    def hear_loss(self, loss: Tensor) -> None:
        """The loss (a detached scalar) of a backward pass of this step."""

    def rounded(self, deployed: Tensor, weight: Tensor) -> Tensor | None:
        """The grid point of `deployed`, which was made of `weight`; None where this pass computes with floats."""
        return None if self.options.weight_type is None else self._rounded(deployed, weight, self.options.weight_type)

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # the step decides, and a scale is found once per step
    @torch.no_grad()
    def _rounded(self, deployed: Tensor, weight: Tensor, kind: WeightType) -> Tensor | None:
        if not self.training:
            return round_weight(deployed, kind)
        if not self.options.schedule.is_frozen(int(self.step)):
            return None
        key = self.key(weight)
        if self._scale is None or self._scale[0] != key:
            self._scale = key, weight_scale(deployed, kind)
        return round_weight(deployed, kind, self._scale[1])

    def at_fold(self, deployed: Tensor) -> Tensor:
        """The grid point of `deployed`, whatever the step; itself where the weight stays a float."""
        kind = self.options.weight_type
        return deployed if kind is None else round_weight(deployed, kind)

    def key(self, weight: Tensor) -> object:
        """Equal as long as neither weight nor parameters change."""
        return (id(weight), weight._version, *(p._version for p in self.parameters()))

    @torch.no_grad()
    def prepare_step(self, weight: Tensor, scale: Tensor | None = None) -> None:
        """Finish the gradients and count the step; arguments as in `finish_gradients`."""
        self.finish_gradients(weight, int(self.step), scale)
        self.step += 1
        self.forget()

    def forget(self) -> None:
        """Drop what was worked out for this step."""
        self._scale = None

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> WeightLearner:
        self.forget()  # another device or dtype
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: Mapping[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        refusal = self.refusal(state_dict, prefix)
        if refusal is not None:
            error_msgs.append(refusal)
            return
        self.forget()  # other parameters, maybe other objects altogether
        adapted = self.adapted(state_dict, prefix)
        super()._load_from_state_dict(
            adapted, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )

    def refusal(self, state_dict: Mapping[str, Any], prefix: str) -> str | None:
        """Why the state of a checkpoint is none of this learner's; None where it is."""
        return None

    def adapted(self, state_dict: Mapping[str, Any], prefix: str) -> dict[str, Any]:
        """The state of a checkpoint as this learner has it; its own keys begin with `prefix`.

        Weights that were trained as floats, or as other whole numbers, may go on as these.
        """
        own = {key: value for key, value in state_dict.items() if key.startswith(prefix)}
        own.pop(f"{prefix}largest", None)
        return own if self.largest is None else {**own, f"{prefix}largest": self.largest}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_scale": None}
