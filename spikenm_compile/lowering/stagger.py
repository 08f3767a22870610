"""Which slab of outputs an input reaches through staggered weights `N:M@stagger`, and by which of its weight rows.

K = M/N. At tap t, input channel c reaches only the slab s = (c - ⌊c/M⌋ - t) mod K, so that the weights of a slab take
1/K of the rows. The inputs of a pixel are parted into K classes so that, for one output, all inputs of a class reach
one slab, whatever their tap: tap t = ky·kw + kx of the output (oy, ox) reads the pixel y = oy·S + ky, x = ox·S + kx,

    class  =  (c - ⌊c/M⌋ - x - kw·y) mod K   =   (s - ox·S - kw·oy·S) mod K

The rank of an input among the channels of its class is ⌊c/M⌋·N + ⌊(c mod M)/K⌋.

A linear layer has one tap; its groups run over C·H·W in PyTorch's flatten order, and there class = slab.
"""

from __future__ import annotations

from dataclasses import dataclass

from spikenm_compile.lowering.tir import Expr
from spikenm_compile.ops import IntConv2d
from spikenm_compile.pattern import Pattern


@dataclass(frozen=True)
class Stagger:
    """A staggered layer's inputs. Coordinates of pixels count from the halo's first row and column."""

    pattern: Pattern
    kernel_width: int
    flattened: tuple[int, int] | None = None
    """[H, W] of a linear layer's input; None: a convolution."""
    halo: int = 0
    """Of the input of a linear layer, whose channels are numbered inside of it."""

    @classmethod
    def of(cls, conv: IntConv2d, halo: int) -> Stagger:
        """That of a layer whose weights hold `conv.pattern` staggered, behind an input with that halo."""
        assert conv.pattern is not None
        width = conv.weight.shape[3]
        if conv.linear_input is None:
            return cls(conv.pattern, width)
        return cls(conv.pattern, width, conv.linear_input[1:], halo)

    @property
    def classes(self) -> int:
        """K."""
        return self.pattern.m // self.pattern.n

    def input_of(self, y: Expr, x: Expr, c: Expr) -> Expr:
        """Number of an input among those that the groups run over."""
        if self.flattened is None:
            return c
        height, width = self.flattened
        return (c * height + y - self.halo) * width + x - self.halo

    def class_of(self, y: Expr, x: Expr, c: Expr) -> Expr:
        """The class of a spike."""
        i, k = self.input_of(y, x, c), self.classes
        if self.flattened is not None:
            return (i + (k - 1) * (i // self.pattern.m)) % k
        return (i + (k - 1) * (i // self.pattern.m + x + self.kernel_width * y)) % k

    def class_for(self, slab: Expr, y: Expr, x: Expr) -> Expr:
        """The class that reaches a slab of an output whose first tap reads the pixel (y, x)."""
        if self.flattened is not None:
            return slab
        return (slab + (self.classes - 1) * (x + self.kernel_width * y)) % self.classes

    def rank(self, y: Expr, x: Expr, c: Expr) -> Expr:
        """Number of a spike's input among those of its class."""
        i, p = self.input_of(y, x, c), self.pattern
        return i // p.m * p.n + i % p.m // self.classes
