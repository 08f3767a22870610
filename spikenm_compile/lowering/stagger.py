"""Which slabs of outputs an input reaches through staggered weights `N:M@stagger`, and by which of its weight rows.

K = M/N. At tap t, input channel c reaches only the slab s = (c - ⌊c/M⌋ - t) mod K. The inputs of a pixel are parted
into classes, so that for one output all inputs of a class reach one slab, whatever their tap: tap t = ky·kw + kx of the
output (oy, ox) reads the pixel y = oy·S + ky, x = ox·S + kx, and

    class  =  (c - ⌊c/M⌋ - x - kw·y) mod K   =   (s - ox·S - kw·oy·S) mod K

Both sides may be taken modulo a divisor K' of K instead. Then there are K' classes, and a class reaches K/K' slabs
together: a row holds these slabs' weights, of which one slab's are not zero. Narrow slabs are put together in this way,
since a row of a few bytes does not pay for the work around it. Slabs s, s + K', s + 2·K', ... are one `set` of slabs.

The rank of an input among the channels of its class is ⌊c/M⌋·M/K' + ⌊(c mod M)/K'⌋.

A linear layer has one tap; its groups run over C·H·W in PyTorch's flatten order, and there class = s mod K'.
"""

from __future__ import annotations

from dataclasses import dataclass

from spikenm_compile.lowering.layout import WORD
from spikenm_compile.lowering.tir import Expr
from spikenm_compile.ops import IntConv2d


@dataclass(frozen=True)
class Stagger:
    """A staggered layer's inputs. Coordinates of pixels count from the halo's first row and column."""

    group: int
    """M."""
    slabs: int
    """K."""
    classes: int
    """K', a divisor of K."""
    kernel_width: int
    flattened: tuple[int, int] | None = None
    """[H, W] of a linear layer's input; None: a convolution."""
    halo: int = 0
    """Of the input of a linear layer, whose channels are numbered inside of it."""

    @classmethod
    def of(cls, conv: IntConv2d, halo: int, classes: int) -> Stagger:
        """That of a layer whose weights hold `conv.pattern`, staggered, behind an input with that halo."""
        pattern, width = conv.pattern, conv.weight.shape[3]
        assert pattern is not None
        slabs = pattern.m // pattern.n
        if conv.linear_input is None:
            return cls(pattern.m, slabs, classes, width)
        return cls(pattern.m, slabs, classes, width, conv.linear_input[1:], halo)

    @property
    def repeats(self) -> bool:
        """Whether the classes of a word's bits are those of the next word's, each moved by the same number."""
        return WORD % self.group == 0 and self.flattened in (None, (1, 1))

    @property
    def pieces(self) -> int:
        """Slabs of a set."""
        return self.slabs // self.classes

    def input_of(self, y: Expr, x: Expr, c: Expr) -> Expr:
        """Number of an input among those that the groups run over."""
        if self.flattened is None:
            return c
        height, width = self.flattened
        return (c * height + y - self.halo) * width + x - self.halo

    def class_of(self, y: Expr, x: Expr, c: Expr) -> Expr:
        """The class of a spike."""
        i, k = self.input_of(y, x, c), self.classes
        shift = 0 if self.flattened is not None else x + self.kernel_width * y
        return (i + (k - 1) * (i // self.group + shift)) % k  # k - 1 is -1 modulo k, and the sum never negative

    def bits_of(self, residue: int) -> int:
        """The bits of a word whose class is `residue` in word 0 of pixel (0, 0): one of every K' bits."""
        return sum(1 << c for c in range(WORD) if (c - c // self.group) % self.classes == residue)

    def class_of_bits(self, residue: int, y: Expr, x: Expr, word: Expr) -> Expr:
        """The class of `bits_of(residue)` in any word of a pixel."""
        shift = 0 if self.flattened is not None else x + self.kernel_width * y
        return (residue + (self.classes - 1) * (word * (WORD // self.group) + shift)) % self.classes

    def class_for(self, first_slab: Expr, y: Expr, x: Expr) -> Expr:
        """The class that reaches a set of slabs of an output whose first tap reads the pixel (y, x)."""
        if self.flattened is not None:
            return first_slab
        return (first_slab + (self.classes - 1) * (x + self.kernel_width * y)) % self.classes

    def rank(self, i: Expr) -> Expr:
        """Number of an input among those of its class, at any pixel."""
        return i // self.group * (self.group // self.classes) + i % self.group // self.classes

    def output_of(self, first_slab: Expr, column: Expr, slab_width: int) -> Expr:
        """The output of a column of a set's rows."""
        return (first_slab + self.classes * (column // slab_width)) * slab_width + column % slab_width
