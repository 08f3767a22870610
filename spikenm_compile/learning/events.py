"""Unsigned credit: how much each synapse took part, whatever the direction.

One event is one product δ_i · x_j in the sum that the weight gradient is: of one sample, position, tap and time step.
Since |δ_i · x_j| = |δ_i| · |x_j|, the sum of the absolute values of all events is one more weight gradient,

    E = Σ_events |δ_i · x_j| = weight_gradient(|x|, |δ|)

exactly, and not for spikes alone. It is computed in the backward pass, where δ is known.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv1d_weight, conv2d_weight, conv3d_weight

from spikenm_compile.learning.learner import WeightLearner

_CONVOLUTION_GRADIENTS = {1: conv1d_weight, 2: conv2d_weight, 3: conv3d_weight}


def weight_gradient(layer: nn.Module, x: Tensor, delta: Tensor) -> Tensor:
    """Gradient of the weight of `layer`, a convolution or Linear, for its input `x` and the gradient of its output."""
    if isinstance(layer, nn.Linear):
        return delta.reshape(-1, layer.out_features).T @ x.reshape(-1, layer.in_features)
    assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    dims = len(layer.kernel_size)
    padding: tuple[int, ...] = (0,) * dims
    if layer.padding_mode == "zeros" and not isinstance(layer.padding, str):
        padding = layer.padding
    else:
        mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        x = F.pad(x, layer._reversed_padding_repeated_twice, mode)
    if x.dim() == dims + 1:
        x, delta = x[None], delta[None]
    shape, geometry = layer.weight.shape, (layer.stride, padding, layer.dilation, layer.groups)
    return cast("Tensor", _CONVOLUTION_GRADIENTS[dims](x, shape, delta, *geometry))  # type: ignore[no-untyped-call]


class _CountEvents(torch.autograd.Function):
    """The output as it is; its gradient is counted on the way back."""

    @staticmethod
    def forward(ctx: Any, output: Tensor, x: Tensor, layer: nn.Module, learner: WeightLearner) -> Tensor:
        ctx.save_for_backward(x)
        ctx.layer, ctx.learner = layer, learner
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor, None, None, None]:
        (x,) = ctx.saved_tensors
        ctx.learner.hear_events(ctx.layer.weight.abs() * weight_gradient(ctx.layer, x.abs(), grad[0].abs()))
        return grad[0], None, None, None


@torch.compiler.disable  # type: ignore[untyped-decorator]  # the count is a side effect of the backward pass
def count_events(output: Tensor, x: Tensor, layer: nn.Module, learner: WeightLearner) -> Tensor:
    """`output` of `layer` for the input `x`; its backward pass tells `learner` |w| · E."""
    return cast("Tensor", _CountEvents.apply(output, x.detach(), layer, learner))  # type: ignore[no-untyped-call]
