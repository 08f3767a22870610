"""NIR layers as torch layers of one step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spikenm_compile.errors import InputError
from spikenm_compile.frontend.nir.package import kind_of
from spikenm_compile.frontend.nir.parameters import FIELDS


def layer_of(name: str, node: Any) -> nn.Module:
    """The torch layer of a NIR layer node.

    Raises:
        InputError: there is none.
    """
    kind = kind_of(node)
    if kind not in _LAYERS:
        raise InputError(
            f"node '{name}' of the NIR graph is a {kind}, which a step graph does not have; supported are "
            f"{', '.join([*_LAYERS, *FIELDS])}; replace it by one of these"
        )
    return _LAYERS[kind](name, node)


def _affine(name: str, node: Any) -> nn.Module:
    return _matrix(name, node, _tensor(node.bias))


def _linear(name: str, node: Any) -> nn.Module:
    return _matrix(name, node, None)


def _matrix(name: str, node: Any, bias: Tensor | None) -> nn.Module:
    weight = _tensor(node.weight)
    if weight.dim() != 2:
        raise _wrong(name, node, f"a weight of shape {list(weight.shape)}", "a matrix [outputs, inputs]")
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    return _with_parameters(name, node, layer, weight, bias)


def _scale(name: str, node: Any) -> nn.Module:
    """One factor per channel, as a layer that a compiler knows: each output has one input."""
    scale = _tensor(node.scale)
    rows = scale.reshape(scale.shape[0], -1) if scale.dim() else scale.reshape(1, 1)
    if scale.dim() not in (1, 3) or not torch.equal(rows, rows[:, :1].expand_as(rows)):
        wanted = "one factor per value of a vector, or per channel of a map [C, H, W]"
        raise _wrong(name, node, f"a scale of shape {list(scale.shape)} that is neither", wanted)
    num_channels = len(rows)
    if scale.dim() == 1:
        layer: nn.Module = nn.Linear(num_channels, num_channels, bias=False)
        return _with_parameters(name, node, layer, torch.diag(rows[:, 0]), None)
    layer = nn.Conv2d(num_channels, num_channels, 1, groups=num_channels, bias=False)
    return _with_parameters(name, node, layer, rows[:, :1, None, None].contiguous(), None)


def _conv(rank: int) -> Callable[[str, Any], nn.Module]:
    layer_type = {1: nn.Conv1d, 2: nn.Conv2d}[rank]

    def layer(name: str, node: Any) -> nn.Module:
        weight, groups = _tensor(node.weight), int(node.groups)
        kernel, dilation = tuple(weight.shape[2:]), _sizes(node.dilation, rank)
        geometry = (kernel, _sizes(node.stride, rank), _padding(name, node, kernel, dilation), dilation)
        if len(kernel) != rank:
            raise _wrong(name, node, f"a weight of shape {list(weight.shape)}", f"{rank + 2} dimensions")
        conv = layer_type(weight.shape[1] * groups, weight.shape[0], *geometry, groups)  # type: ignore[arg-type]
        return _with_parameters(name, node, conv, weight, _tensor(node.bias))

    return layer


def _padding(name: str, node: Any, kernel: tuple[int, ...], dilation: tuple[int, ...]) -> tuple[int, ...]:
    """Numbers for the names `valid` and `same`."""
    if not isinstance(node.padding, str | bytes):
        return _sizes(node.padding, len(kernel))
    word = node.padding.decode() if isinstance(node.padding, bytes) else node.padding
    total = [d * (k - 1) if word == "same" else 0 for k, d in zip(kernel, dilation, strict=True)]
    if word not in ("same", "valid") or any(t % 2 for t in total):
        raise _wrong(name, node, f"padding {word!r} for a kernel of {kernel}", "the same padding on both sides")
    return tuple(t // 2 for t in total)


def _avg_pool(_name: str, node: Any) -> nn.Module:
    return nn.AvgPool2d(**_window(node))


def _sum_pool(_name: str, node: Any) -> nn.Module:
    return nn.AvgPool2d(**_window(node), divisor_override=1)


def _window(node: Any) -> dict[str, Any]:
    return {key: _sizes(getattr(node, key), 2) for key in ("kernel_size", "stride", "padding")}


def _flatten(name: str, node: Any) -> nn.Module:
    """NIR counts dimensions without the batch."""
    shape = node.input_type.get("input") if isinstance(node.input_type, dict) else None
    start, end, rank = int(node.start_dim), int(node.end_dim), None if shape is None else len(shape)
    if rank is not None:
        start, end = start % rank, end % rank - rank
    if start != 0 or end != -1:
        raise _wrong(name, node, f"dimensions {node.start_dim} to {node.end_dim}", "all of them, 0 to -1")
    return nn.Flatten()


_LAYERS: Mapping[str, Callable[[str, Any], nn.Module]] = {
    "Affine": _affine,
    "Linear": _linear,
    "Scale": _scale,
    "Conv1d": _conv(1),
    "Conv2d": _conv(2),
    "AvgPool2d": _avg_pool,
    "SumPool2d": _sum_pool,
    "Flatten": _flatten,
}


def _with_parameters(name: str, node: Any, layer: Any, weight: Tensor, bias: Tensor | None) -> nn.Module:
    for key, value in (("weight", weight), *([("bias", bias)] if bias is not None else [])):
        if value.shape != getattr(layer, key).shape:
            raise _wrong(name, node, f"a {key} of shape {list(value.shape)}", f"{list(getattr(layer, key).shape)}")
        setattr(layer, key, nn.Parameter(value))
    module: nn.Module = layer
    return module


def _tensor(values: Any) -> Tensor:
    return torch.tensor(np.asarray(values), dtype=torch.float32)


def _sizes(value: Any, rank: int) -> tuple[int, ...]:
    sizes = tuple(int(v) for v in np.atleast_1d(np.asarray(value)))
    return sizes * rank if len(sizes) == 1 else sizes


def _wrong(name: str, node: Any, found: str, wanted: str) -> InputError:
    return InputError(
        f"node '{name}' ({kind_of(node)}) of the NIR graph has {found}; supported is {wanted}; change the node"
    )
