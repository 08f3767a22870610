"""Parameters of a library's neurons as constants of a canonical neuron: one number, or one per channel.

Libraries let a tensor broadcast against the input from the last dimension on; a canonical neuron has channels in
dimension 1. The two agree for a shape [C] behind a linear layer and for [C, 1, 1] behind a convolution.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from spikenm_compile.errors import CaptureError


def constant(owner: str, name: str, value: Any) -> float | tuple[float, ...]:
    """The parameter `name` of the neuron class `owner`, as it is now.

    Raises:
        CaptureError: it is neither a number nor one float32 number per channel.
    """
    if not isinstance(value, Tensor):
        return _number(owner, name, value)
    if value.dim() > 0 and value.is_floating_point() and value.dtype != torch.float32:
        raise CaptureError(
            f"the {name} of a {owner} is {value.dtype}; a canonical neuron computes in float32; convert it with float()"
        )
    if sum(size > 1 for size in value.shape) > 1:
        raise CaptureError(
            f"the {name} of a {owner} has shape {list(value.shape)}; one number, or one per channel, is supported; "
            "give it the shape [C] behind a linear layer or [C, 1, 1] behind a convolution"
        )
    numbers = [float(v) for v in value.detach().cpu().flatten().tolist()]
    return numbers[0] if len(numbers) == 1 else tuple(numbers)


def initial(owner: str, name: str, value: Any) -> float:
    """First value of a state.

    Raises:
        CaptureError: it differs from channel to channel.
    """
    found = constant(owner, name, value)
    if isinstance(found, tuple):
        raise CaptureError(
            f"a state of a {owner} starts at its {name}, which has {len(found)} values; a state starts at one number; "
            f"give {name} as one number"
        )
    return found


def check_channels(owner: str, name: str, value: Any, shape: tuple[int, ...]) -> None:
    """Whether `value`, if it has one number per channel, broadcasts to dimension 1 of an input [B, C, ...].

    Raises:
        CaptureError: it would broadcast to another dimension.
    """
    if not isinstance(value, Tensor) or value.numel() == 1:
        return
    aligned = (1,) * (len(shape) - value.dim()) + tuple(value.shape)
    if len(aligned) != len(shape) or aligned[1] != shape[1] or any(size != 1 for size in (aligned[0], *aligned[2:])):
        wanted = ", ".join([str(shape[1]), *("1" for _ in shape[2:])])
        raise CaptureError(
            f"the {name} of a {owner}, of shape {list(value.shape)}, does not stand for the channels of an input "
            f"{list(shape)}; one number, or one per channel, is supported; give it the shape [{wanted}]"
        )


def _number(owner: str, name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise CaptureError(
            f"the {name} of a {owner} is a {type(value).__name__}; one number, or one per channel, is supported; give "
            "a number or a tensor"
        )
    return float(value)
