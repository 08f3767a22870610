"""The operations of a lowered graph, each with its reference in PyTorch, which targets are measured against.

    levels   whole numbers held in float32 tensors: spikes (0, 1), counts (0..k), quantised input (-128..255)
    current  = float32(Σ weight · levels) · scale + bias        Σ in exact integer arithmetic, then float32, no FMA

Sums of whole numbers below 2^24 are exact in float32 in any order, so the reference may use any float convolution as
long as `exact_dtype` has proved the bound; above it the reference computes in float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikenm_compile.levels import SPIKES as SPIKES
from spikenm_compile.levels import Levels as Levels
from spikenm_compile.neurons import Neuron, step
from spikenm_compile.pattern import Pattern


def sliced(x: Tensor, dim: int, start: int, stop: int, step: int) -> Tensor:
    """`x[start:stop:step]` in dimension `dim`."""
    return x[(slice(None),) * dim + (slice(start, stop, step),)]


def pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    """(vertical, horizontal) of a size that PyTorch takes as one number or as two."""
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def quantize(x: Tensor, levels: Levels) -> Tensor:
    """Nearest level (ties to even) of each value, saturated; NaN becomes the lowest level. Same shape."""
    q = torch.round(x / levels.scale)
    q = torch.where(q > levels.low, q, float(levels.low))
    return torch.where(q < levels.high, q, float(levels.high))


def largest_sum(weight: Tensor, levels: Levels) -> int:
    """Largest |Σ weight · levels| of any partial sum over any input, for integer `weight` [O, I, kh, kw]."""
    most = max(abs(levels.low), abs(levels.high))
    return int(weight.to(torch.int64).abs().flatten(1).sum(1).max()) * most


def exact_dtype(weight: Tensor, levels: Levels) -> torch.dtype:
    """float32 where every sum is below 2^24 and so exact in any order, else float64."""
    return torch.float32 if largest_sum(weight, levels) < 2**24 else torch.float64


class QuantizeInput(nn.Module):
    """Real input to levels."""

    def __init__(self, levels: Levels) -> None:
        super().__init__()
        self.levels = levels

    def forward(self, x: Tensor) -> Tensor:
        """[B, ...] real to [B, ...] whole numbers."""
        return quantize(x, self.levels)

    def extra_repr(self) -> str:
        """The levels."""
        return str(self.levels)


@dataclass(frozen=True)
class Alternative:
    """A second kernel of a layer, for calls whose inputs are denser than most, or sparser."""

    kernel: str
    """Kernel family."""
    density: float
    """Share of inputs that are not zero from which on it is quicker, or below which."""
    is_denser: bool


class IntConv2d(nn.Module):
    """Convolution of levels with int8 weights, and the scale and bias that make a float32 current of the sum.

    Buffers: `weight` int8 [O, I/groups, kh, kw]; `scale`, `bias` float32 [O]. A linear layer is one with a kernel as
    large as its input.
    """

    weight: Tensor
    scale: Tensor
    bias: Tensor

    def __init__(
        self,
        weight: Tensor,
        scale: Tensor,
        bias: Tensor,
        *,
        levels: Levels,
        stride: tuple[int, int] = (1, 1),
        padding: tuple[int, int] = (0, 0),
        dilation: tuple[int, int] = (1, 1),
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale)
        self.register_buffer("bias", bias)
        self.levels = levels
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups
        self.pattern: Pattern | None = None
        """N:M that the weights hold and are stored in; None: dense. Set by `pack-nm-weights`."""
        self.linear_input: tuple[int, int, int] | None = None
        """[C, H, W] that a linear layer's input was flattened from; N:M groups then run over C·H·W."""
        self.layer = ""
        """Name of the user's layer."""
        self.density: float | None = None
        """Mean share of its inputs that are not zero. Set by `annotate-density`; None: not measured."""
        self.mean_level = 1.0
        """Mean magnitude of its inputs that are not zero. Set by `annotate-density`."""
        self.kernel = ""
        """Kernel family. Set by `select-kernels`."""
        self.tile_width: int | None = None
        """Outputs that one pass over the inputs computes, where that was measured to be best; None: the target's."""
        self.alternative: Alternative | None = None
        """A second kernel beside it. Set by `select-kernels`."""
        self.microseconds: float | None = None
        """Time of one call of T steps, measured or predicted. Set by `select-kernels`; None: not known."""
        self.savings = ""
        """What other patterns would save of it, for the user."""
        self.why = ""
        """Why this pattern and this kernel, for the user."""

    def sums(self, levels: Tensor) -> Tensor:
        """Σ weight · levels, whole numbers in float32 or float64."""
        dtype = exact_dtype(self.weight, self.levels)
        weight = self.weight.to(dtype)
        return F.conv2d(levels.to(dtype), weight, None, self.stride, self.padding, self.dilation, self.groups)

    def forward(self, levels: Tensor) -> Tensor:
        """[B, I, H, W] levels to [B, O, H', W'] float32 current."""
        sums = self.sums(levels).to(torch.float32)
        return sums * self.scale[:, None, None] + self.bias[:, None, None]

    def stored_weight(self) -> Tensor:
        """The weight as it is stored and grouped: [O, I, kh, kw], or [O, C·H·W, 1, 1] of a linear layer."""
        return self.weight if self.linear_input is None else self.weight.flatten(1)[:, :, None, None]

    def extra_repr(self) -> str:
        """Shape, geometry, pattern and kernel."""
        text = f"{list(self.weight.shape)}, stride={self.stride[0]}, padding={self.padding[0]}, levels={self.levels}"
        density = "" if self.density is None else f", density={self.density:.3g}"
        return (
            text + f", pattern={self.pattern or 'dense'}{density}" + (f", kernel={self.kernel}" if self.kernel else "")
        )


def is_depthwise(conv: IntConv2d) -> bool:
    """Whether each output channel reads one input channel, and each input channel is read by one output channel."""
    return conv.groups > 1 and conv.groups == conv.weight.shape[0] and conv.weight.shape[1] == 1


class NeuronStep(nn.Module):
    """One time step of a layer of canonical neurons with explicit states."""

    def __init__(self, neuron: Neuron) -> None:
        super().__init__()
        self.neuron = neuron
        self.layer = ""
        """Name of the user's layer."""

    def forward(self, *inputs_and_states: Tensor) -> tuple[Tensor, ...]:
        """Currents and states, in the order of `neuron.inputs` and `neuron.states`, to (output, *next states)."""
        count = len(self.neuron.inputs)
        output, after = step(inputs_and_states[:count], inputs_and_states[count:], self.neuron)
        return output, *after

    def extra_repr(self) -> str:
        """The equations."""
        return str(self.neuron)


class Constant(nn.Module):
    """A tensor of the model that takes part in a step: the same for each sample and at each step.

    Args:
        value: [1, ...], shared with the model where it is a view of a parameter or buffer.
    """

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value = nn.Parameter(value, requires_grad=False)

    def forward(self, like: Tensor) -> Tensor:
        """The value [B, ...], once for each sample of `like`."""
        return self.value.expand(like.shape[0], *self.value.shape[1:])

    def extra_repr(self) -> str:
        """Shape of one sample."""
        return str(list(self.value.shape[1:]))


class IntConvNeuron(nn.Module):
    """`IntConv2d` and a `NeuronStep` of one input as one operation, so that the current never reaches memory."""

    def __init__(self, conv: IntConv2d, neuron: NeuronStep) -> None:
        super().__init__()
        self.conv = conv
        self.neuron = neuron

    def forward(self, levels: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """Levels and states to (output, *next states)."""
        results: tuple[Tensor, ...] = self.neuron(self.conv(levels), *states)
        return results
