"""What every mask learner is: a learner of a weight (learner.py) that says which N of each M weights stay.

forward    w̃ = h · w        h = sample(w, step) in training, one sample per optimiser step; harden(w) in evaluation
w̃ = q · s of h · w  where weights are rounded
backward   ∂L/∂w = G = ∂L/∂w̃  where pruned weights learn on (dense straight-through), h · G where the mask is fixed
∂L/∂carrier = w · G  where something carries the gradient to parameters of the learner
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from spikenm_compile.learning.bits import pack, unpack
from spikenm_compile.learning.learner import WeightLearner
from spikenm_compile.learning.options import LearnerName, MaskOptions, decode_identity, encode_identity
from spikenm_compile.learning.sharding import whole
from spikenm_compile.learning.straight_through import straight_through
from spikenm_compile.marks import PATTERN
from spikenm_compile.pattern import Pattern


def _times(mask: Tensor, weight: Tensor) -> Tensor:
    """w̃ in the memory layout of the weight, which says how fast a convolution is; in place of the mask where it can."""
    in_place = mask.stride() == weight.stride() and mask.dtype == weight.dtype
    return mask.mul_(weight) if in_place else weight * mask


class MaskLearner(WeightLearner):
    """Learns the mask of one weight [O, I, *kernel].

    Args:
        weight: the weight, with I a multiple of M.
        pattern: N:M, V:N:M or N:M@stagger.
        options: how the mask is learned.
        layer: name of the layer; makes its noise differ from that of the others.

    `nm` in the state_dict says which pattern and which learner a checkpoint was trained with (options.encode_identity).
    """

    name: ClassVar[LearnerName]
    """Its name in `MaskOptions.learner`."""
    is_fixed: ClassVar[bool] = False
    """Whether the mask never changes, so that pruned weights need no gradient."""

    nm: Tensor

    def __init__(self, weight: Tensor, pattern: Pattern, options: MaskOptions | None = None, layer: str = "") -> None:
        self.pattern = pattern  # `start` needs it
        super().__init__(weight, options or MaskOptions(learner=self.name), layer)
        self.register_buffer("nm", torch.tensor(encode_identity(pattern, self.name), device=weight.device))
        self._sample: tuple[object, Tensor] | None = None

    @classmethod
    def describe(cls, options: MaskOptions) -> str:
        """One line for the user: how the mask comes about in the course of the training."""
        return str(options.schedule)

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
        return self.at_fold(weight * self.harden(weight))

    def facts(self, weight: Tensor) -> dict[str, object]:
        """What a folded layer keeps of the learner of its `weight`: attributes by name."""
        return {PATTERN: self.pattern, **super().facts(weight)}

    def carrier(self, weight: Tensor) -> Tensor | None:
        """In the shape of `weight`, what hands the mask's gradient w·G to the parameters; None: nothing does."""
        return None

    def pattern_at(self, step: int) -> Pattern | None:
        """The pattern that a mask sampled at `step` holds; None: it keeps all weights."""
        n = self.options.schedule.n_at(step, self.pattern)
        return None if n == self.pattern.m else replace(self.pattern, n=n)

    def forward(self, weight: Tensor) -> Tensor:
        """The masked weight."""
        mask = self._sampled_mask(weight) if self.training else self.harden(weight.detach())
        if self.is_fixed:
            masked = weight * mask
            rounded = self.rounded(masked.detach(), weight)
            return masked if rounded is None else straight_through(masked, rounded)
        carrier = self.carrier(weight) if torch.is_grad_enabled() else None
        masked = _times(mask, weight.detach())
        rounded = self.rounded(masked, weight)
        return straight_through(weight, masked if rounded is None else rounded, carrier)

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # the sample is made once per step, not once per graph
    @torch.no_grad()
    def _sampled_mask(self, weight: Tensor) -> Tensor:
        """The mask of this step, drawn again only where weight or parameters changed without a step."""
        key = self.key(weight)
        if self._sample is not None and self._sample[0] == key:
            return unpack(self._sample[1], weight)
        mask = self.sample(weight, int(self.step))
        self._sample = key, pack(mask)
        return mask

    def mask_in_use(self, weight: Tensor) -> Tensor:
        """The mask of the forward passes of this step; `weight` may be a shard."""
        every = whole(weight)
        return self.sample(every, int(self.step)) if self._sample is None else unpack(self._sample[1], every)

    def forget(self) -> None:
        """Drop the mask of this step too."""
        super().forget()
        self._sample = None

    def refusal(self, state_dict: Mapping[str, Any], prefix: str) -> str | None:
        """Another learner's, or of another pattern."""
        trained = state_dict.get(f"{prefix}nm")
        if trained is None or trained.tolist() == self.nm.tolist():
            return None
        return _other_identity(prefix, trained.tolist(), self)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_sample": None}

    def extra_repr(self) -> str:
        """The pattern, for print(model)."""
        return f"{self.pattern}"


def _other_identity(prefix: str, numbers: list[int], learner: MaskLearner) -> str:
    pattern, name = decode_identity(numbers)
    by = "" if name == learner.name else f" by {name}"
    where = next((f"{prefix}{key} were" for key, _ in learner.named_parameters()), f"{prefix.rstrip('.')} was")
    return f"{where} trained as {pattern}{by}, and the model learns {learner.pattern}{by and f' by {learner.name}'}"
