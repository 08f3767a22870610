"""SpRe: a second weight for the kernel taps of which N:M keeps too little; it folds into the first.

    h      = top N of |w|                                  the mask of SR-STE, and its decay
    b_t    = 1 where the share of tap t among the N/M largest |w| of the layer is above N/M, else 0     fixed at first
    y      = (h · w) ∗ x + γ · r · (h · b · u) ∗ x         training; u: second weight, γ [O]: its gain, 1 at first
    r      = √((var y_w + ε) / (var y_u + ε))              of the two outputs, over batch and places, for each output
    w̃      = h · (w + γ · r̄ · b · u)                       evaluation and fold; r̄: r of running variances

Source: Zhang et al., "Spatial Re-parameterization for N:M Sparsity", arXiv 2306.05612, section 3. There each branch
ends in a batch norm of its own, and folding both leaves a bias. Here the layer stays one without: the second output is
brought to the spread of the first, its mean is left in. Under a batch norm behind the layer this is the same function
in training up to the scale of the sum; without one the mean of the second output stays. ∂L/∂r̄ goes through var y_u
as in a batch norm, and not through var y_w. A Linear layer and a 1×1 kernel have one tap, so that b = 0: SR-STE.
"""

from __future__ import annotations

import zlib
from typing import ClassVar

import torch
from torch import Tensor, nn

from spikenm_compile.learning.learner import Operation
from spikenm_compile.learning.learners.sr_ste import SRSTE
from spikenm_compile.learning.options import LearnerName, MaskOptions
from spikenm_compile.pattern import Pattern

EPSILON = 1e-5
MOMENTUM = 0.1
"""Both as in torch's batch norm."""


class SpRe(SRSTE):
    """`second` is u, `gain` γ, `taps` b; `spreads` [2, O] the running variances of both outputs."""

    name: ClassVar[LearnerName] = "spre"

    second: nn.Parameter
    gain: nn.Parameter
    taps: Tensor
    spreads: Tensor

    def start(self, weight: Tensor) -> None:
        """Draw the second weight as large as the first, on the CPU: the same on every device; choose its taps."""
        generator = torch.Generator().manual_seed(zlib.crc32(f"{self.options.seed}/{self.layer}/second".encode()))
        drawn = torch.randn(weight.shape, generator=generator).to(weight)
        self.second = nn.Parameter(drawn * weight.square().mean().sqrt())
        self.gain = nn.Parameter(weight.new_ones(len(weight)))
        self.register_buffer("taps", short_taps(weight, self.pattern))
        self.register_buffer("spreads", torch.ones(2, len(weight), device=weight.device))

    @classmethod
    def describe(cls, options: MaskOptions) -> str:
        """One line for the user."""
        return f"{super().describe(options)}; kernel taps that keep few weights train with a second one"

    def forward(self, weight: Tensor) -> Tensor:
        """The first weight in training, both as one in evaluation."""
        return super().forward(weight) if self.training else self.folded(weight)

    def folded(self, weight: Tensor) -> Tensor:
        """Both weights as one."""
        ratio = self.gain * _ratio(*self.spreads).to(weight.dtype)
        both = weight + _spread(ratio, weight.ndim - 1) * self.taps * self.second
        return both * self.harden(weight)  # in this order the memory layout, and with it each bit, is the weight's

    def operate(self, operation: Operation, weight: Tensor, bias: Tensor | None) -> Tensor:
        """In training, the sum of the two outputs."""
        if not self.training or self.taps.numel() == 1:
            return super().operate(operation, weight, bias)
        first = operation(self(weight), bias)
        second = operation(self._sampled_mask(weight) * self.taps * self.second, None)
        over = _all_but_channels(first, weight)
        spreads = torch.stack([y.float().var(over, correction=0) for y in (first.detach(), second)])
        with torch.no_grad():
            self.spreads.lerp_(spreads.detach(), MOMENTUM)
        ratio = (self.gain * _ratio(*spreads)).to(second.dtype)
        return first + _spread(ratio, weight.ndim - 2) * second


def short_taps(weight: Tensor, pattern: Pattern) -> Tensor:
    """Taps b [*kernel], 0.0 and 1.0, of which pruning without a pattern would keep more than N/M of the weights."""
    if weight[0, 0].numel() == 1:
        return weight.new_zeros(weight.shape[2:])
    by_tap = weight.abs().reshape(weight.shape[0] * weight.shape[1], -1)
    kept = by_tap.numel() * pattern.n // pattern.m
    threshold = by_tap.flatten().topk(kept).values[-1]
    counts = (by_tap >= threshold).sum(0)
    is_short = counts * pattern.m > len(by_tap) * pattern.n
    return is_short.to(weight.dtype).view(weight.shape[2:])


def _ratio(first: Tensor, second: Tensor) -> Tensor:
    """Ratio r [O] of the variances."""
    return ((first + EPSILON) / (second + EPSILON)).sqrt()


def _spread(values: Tensor, dimensions: int) -> Tensor:
    """`values` [O] in front of so many dimensions."""
    return values.view(-1, *[1] * dimensions)


def _all_but_channels(output: Tensor, weight: Tensor) -> list[int]:
    """Dimensions of `output` [..., O, *places] but that of the channels; a batch may be missing."""
    channels = output.ndim - (weight.ndim - 1)
    return [d for d in range(output.ndim) if d != channels]
