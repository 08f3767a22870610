"""Torch layers of one step as NIR layers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from spikenm_compile.errors import InputError

Shape = tuple[int, ...]


def nir_layer(nir: Any, name: str, layer: nn.Module | None, shape: Shape, after: Shape) -> Any:
    """The NIR node of a plain layer, with the shapes [..] before and after it.

    Raises:
        InputError: there is none.
    """
    node = _node(nir, name, layer, shape, after)
    node.input_type, node.output_type = {"input": np.array(shape)}, {"output": np.array(after)}
    return node


def _node(nir: Any, name: str, layer: nn.Module | None, shape: Shape, after: Shape) -> Any:
    if isinstance(layer, nn.Linear):
        return _linear(nir, name, layer, shape)
    if isinstance(layer, nn.Conv2d):
        return _conv(nir, name, layer, shape)
    if isinstance(layer, nn.AvgPool2d):
        return _avg_pool(nir, name, layer)
    if isinstance(layer, nn.AdaptiveAvgPool2d):
        return _adaptive_pool(nir, name, shape, after)
    if isinstance(layer, nn.Flatten):
        return nir.Flatten(input_type=np.array(shape), start_dim=0, end_dim=-1)
    kind = type(layer).__name__
    if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
        raise InputError(
            f"layer '{name}' ({kind}) cannot be folded into a layer before it, and NIR has no batch norm; put it "
            "behind a convolution or linear layer"
        )
    raise InputError(
        f"layer '{name}' is a {kind}, which NIR does not have; Linear, Conv2d, AvgPool2d, AdaptiveAvgPool2d and "
        "Flatten have a form there; replace it by one of these"
    )


def _linear(nir: Any, name: str, layer: nn.Linear, shape: Shape) -> Any:
    if len(shape) != 1:
        raise InputError(
            f"layer '{name}' (Linear) reads values of shape {list(shape)}; NIR has matrices on vectors; flatten first"
        )
    weight, bias = _array(layer.weight), None if layer.bias is None else _array(layer.bias)
    return nir.Linear(weight=weight) if bias is None else nir.Affine(weight=weight, bias=bias)


def _conv(nir: Any, name: str, layer: nn.Conv2d, shape: Shape) -> Any:
    if layer.padding_mode != "zeros":
        raise InputError(
            f"layer '{name}' (Conv2d) pads with {layer.padding_mode!r}; NIR pads with zeros; use padding_mode='zeros'"
        )
    weight = _array(layer.weight)
    return nir.Conv2d(
        input_shape=shape[1:],
        weight=weight,
        stride=layer.stride,
        padding=layer.padding,
        dilation=layer.dilation,
        groups=layer.groups,
        bias=np.zeros(len(weight), np.float32) if layer.bias is None else _array(layer.bias),
    )


def _avg_pool(nir: Any, name: str, layer: nn.AvgPool2d) -> Any:
    window = {key: np.array(_pair(getattr(layer, key))) for key in ("kernel_size", "stride", "padding")}
    counts_all = layer.count_include_pad or not window["padding"].any()
    if layer.ceil_mode or not counts_all or layer.divisor_override not in (None, 1):
        raise InputError(
            f"layer '{name}' (AvgPool2d) has ceil_mode, count_include_pad=False or a divisor of its own; NIR divides "
            "by the window's size, or not at all; use the defaults of torch"
        )
    return (nir.AvgPool2d if layer.divisor_override is None else nir.SumPool2d)(**window)


def _adaptive_pool(nir: Any, name: str, shape: Shape, after: Shape) -> Any:
    if any(size % wanted for size, wanted in zip(shape[1:], after[1:], strict=True)):
        raise InputError(
            f"layer '{name}' (AdaptiveAvgPool2d) makes {list(after)} of {list(shape)} with windows of several sizes; "
            "NIR has windows of one size; choose an output that divides the input"
        )
    window = np.array([size // wanted for size, wanted in zip(shape[1:], after[1:], strict=True)])
    return nir.AvgPool2d(kernel_size=window, stride=window, padding=np.zeros(2, dtype=int))


def _pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _array(parameter: Tensor) -> NDArray[np.float32]:
    values: NDArray[np.float32] = parameter.detach().cpu().float().numpy().copy()
    return values
