"""What every mask learner is: a child `mask` of a layer that says which N of each M weights stay.

    forward    w̃ = h · w        h = sample(w, step) in training, one sample per optimiser step; harden(w) in evaluation
    backward   ∂L/∂w = G = ∂L/∂w̃  where pruned weights learn on (dense straight-through), h · G where the mask is fixed
               ∂L/∂carrier = w · G  where something carries the gradient to parameters of the learner
    output     the layer's operation on w̃ (`operate`: a learner with more than one weight applies it more than once)
    fold       w ← w̃ of evaluation (`folded`)
    before the optimiser's step, once: prepare_step

What is not linear in the gradients of a step's backward passes waits for `prepare_step`, which sees their sum.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from spikenm_compile.learning.bits import pack, unpack
from spikenm_compile.learning.options import LearnerName, MaskOptions, decode_identity, encode_identity
from spikenm_compile.learning.sharding import whole
from spikenm_compile.pattern import Pattern

Operation = Callable[[Tensor, Tensor | None], Tensor]
"""(weight, bias) -> output of a layer for the input that it has been called with."""


class _MaskedWeight(torch.autograd.Function):
    """The masked weight w̃, with dense straight-through gradients to the weight and to what carries the mask's."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, masked: Tensor, carrier: Tensor | None) -> Tensor:
        ctx.has_carrier = carrier is not None
        if ctx.has_carrier:
            ctx.save_for_backward(weight)
        return masked.view_as(masked)

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor, None, Tensor | None]:
        if not ctx.has_carrier:
            return grad[0], None, None
        (weight,) = ctx.saved_tensors
        return grad[0], None, weight * grad[0]


def _times(mask: Tensor, weight: Tensor) -> Tensor:
    """w̃ in the memory layout of the weight, which says how fast a convolution is; in place of the mask where it can."""
    in_place = mask.stride() == weight.stride() and mask.dtype == weight.dtype
    return mask.mul_(weight) if in_place else weight * mask


class MaskLearner(nn.Module, ABC):
    """Learns the mask of one weight [O, I, *kernel].

    Args:
        weight: the weight, with I a multiple of M.
        pattern: N:M, V:N:M or N:M@stagger.
        options: how the mask is learned.
        layer: name of the layer; makes its noise differ from that of the others.

    Everything that a resumed training needs is in the state_dict. `step` counts optimiser steps; `nm` says which
    pattern and which learner a checkpoint was trained with (options.encode_identity).
    """

    name: ClassVar[LearnerName]
    """Its name in `MaskOptions.learner`."""
    is_fixed: ClassVar[bool] = False
    """Whether the mask never changes, so that pruned weights need no gradient."""

    needs_loss: ClassVar[bool] = False
    """Whether `hear_loss` has to be called for each backward pass."""

    step: Tensor
    nm: Tensor

    def __init__(self, weight: Tensor, pattern: Pattern, options: MaskOptions | None = None, layer: str = "") -> None:
        super().__init__()
        self.pattern = pattern
        self.options = options or MaskOptions(learner=self.name)
        self.layer = layer
        self.start(weight.detach())
        self.register_buffer("step", torch.zeros((), dtype=torch.int64, device=weight.device))
        self.register_buffer("nm", torch.tensor(encode_identity(pattern, self.name), device=weight.device))
        self._sample: tuple[object, Tensor] | None = None

    @classmethod
    def describe(cls, options: MaskOptions) -> str:
        """One line for the user: how the mask comes about in the course of the training."""
        return str(options.schedule)

    def start(self, weight: Tensor) -> None:
        """Register parameters and buffers for the mask of `weight`."""

    @abstractmethod
    def sample(self, weight: Tensor, step: int) -> Tensor:
        """The hard mask of one training step, 0.0 and 1.0 in shape and dtype of `weight`: N in each group, or all.

        A new tensor, which the caller may overwrite.
        """

    @abstractmethod
    def harden(self, weight: Tensor) -> Tensor:
        """The mask that evaluation uses and `fold` makes final, as in `sample`; N in each group."""

    def folded(self, weight: Tensor) -> Tensor:
        """The weight that evaluation uses, and that `fold` leaves behind."""
        return weight * self.harden(weight)

    def facts(self, weight: Tensor) -> dict[str, object]:
        """What a folded layer keeps of the learner of its `weight`: attributes by name."""
        return {"nm_pattern": self.pattern}

    def operate(self, operation: Operation, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Output of the layer whose `weight` this learner masks."""
        return operation(self(weight), bias)

    def carrier(self, weight: Tensor) -> Tensor | None:
        """In the shape of `weight`, what hands the mask's gradient w·G to the parameters; None: nothing does."""
        return None

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

    def pattern_at(self, step: int) -> Pattern | None:
        """The pattern that a mask sampled at `step` holds; None: it keeps all weights."""
        n = self.options.schedule.n_at(step, self.pattern)
        return None if n == self.pattern.m else replace(self.pattern, n=n)

    def forward(self, weight: Tensor) -> Tensor:
        """The masked weight."""
        mask = self._sampled_mask(weight) if self.training else self.harden(weight.detach())
        if self.is_fixed:
            return weight * mask
        carrier = self.carrier(weight) if torch.is_grad_enabled() else None
        return cast("Tensor", _MaskedWeight.apply(weight, _times(mask, weight.detach()), carrier))  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def prepare_step(self, weight: Tensor, scale: Tensor | None = None) -> None:
        """Finish the gradients and count the step; arguments as in `finish_gradients`."""
        self.finish_gradients(weight, int(self.step), scale)
        self.step += 1
        self._sample = None

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # the sample is made once per step, not once per graph
    @torch.no_grad()
    def _sampled_mask(self, weight: Tensor) -> Tensor:
        """The mask of this step, drawn again only where weight or parameters changed without a step."""
        key = (id(weight), weight._version, *(p._version for p in self.parameters()))
        if self._sample is not None and self._sample[0] == key:
            return unpack(self._sample[1], weight)
        mask = self.sample(weight, int(self.step))
        self._sample = key, pack(mask)
        return mask

    def mask_in_use(self, weight: Tensor) -> Tensor:
        """The mask of the forward passes of this step; `weight` may be a shard."""
        every = whole(weight)
        return self.sample(every, int(self.step)) if self._sample is None else unpack(self._sample[1], every)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> MaskLearner:
        self._sample = None  # another device or dtype
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
        self._sample = None  # other parameters, maybe other objects altogether
        trained = state_dict.get(f"{prefix}nm")
        if trained is not None and trained.tolist() != self.nm.tolist():
            error_msgs.append(_other_identity(prefix, trained.tolist(), self))
            return
        adapted = self.adapted(state_dict, prefix)
        super()._load_from_state_dict(
            adapted, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )

    def adapted(self, state_dict: Mapping[str, Any], prefix: str) -> Mapping[str, Any]:
        """The state of a checkpoint as this learner has it; its own keys begin with `prefix`."""
        return state_dict

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_sample": None}

    def extra_repr(self) -> str:
        """The pattern, for print(model)."""
        return f"{self.pattern}"


def _other_identity(prefix: str, numbers: list[int], learner: MaskLearner) -> str:
    pattern, name = decode_identity(numbers)
    by = "" if name == learner.name else f" by {name}"
    where = next((f"{prefix}{key} were" for key, _ in learner.named_parameters()), f"{prefix.rstrip('.')} was")
    return f"{where} trained as {pattern}{by}, and the model learns {learner.pattern}{by and f' by {learner.name}'}"
