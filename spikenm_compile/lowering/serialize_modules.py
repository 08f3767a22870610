"""Modules of a lowered graph as JSON objects and arrays, and back. The list of kinds is closed: no code is stored."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt
import torch
from torch import nn

from spikenm_compile.errors import PassError, PatternError
from spikenm_compile.lowering.serialize_neurons import decode_neuron, encode_neuron
from spikenm_compile.lowering.serialize_records import Object, Record
from spikenm_compile.lowering.serialize_values import Arrays, decode_levels, encode_levels, stored_tensor
from spikenm_compile.ops import IntConv2d, IntConvNeuron, NeuronStep, QuantizeInput
from spikenm_compile.pattern import Pattern

_PLAIN: dict[str, tuple[type[nn.Module], tuple[str, ...]]] = {
    "MaxPool2d": (nn.MaxPool2d, ("kernel_size", "stride", "padding", "dilation", "return_indices", "ceil_mode")),
    "AvgPool2d": (
        nn.AvgPool2d,
        ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"),
    ),
    "Flatten": (nn.Flatten, ("start_dim", "end_dim")),
    "Unflatten": (nn.Unflatten, ("dim", "unflattened_size")),
}
"""Modules of PyTorch that are no more than the arguments of their constructor."""


def encode_module(name: str, module: nn.Module, tensors: dict[str, npt.NDArray[Any]]) -> Object:
    """The module as a JSON object; its tensors are added to `tensors`.

    Raises:
        PassError: a kind of module that a lowered graph does not have.
    """
    kind = type(module)
    if kind is IntConv2d:
        return _encode_conv(name, module, tensors)  # type: ignore[arg-type]
    if kind is NeuronStep:
        return encode_neuron(name, module, tensors)  # type: ignore[arg-type]
    if kind is QuantizeInput:
        return {"kind": "QuantizeInput", "levels": encode_levels(module.levels)}  # type: ignore[arg-type]
    if kind is IntConvNeuron:
        parts = {part: encode_module(f"{name}.{part}", child, tensors) for part, child in module.named_children()}
        return {"kind": "IntConvNeuron", **parts}
    plain, fields = _PLAIN.get(kind.__name__, (None, ()))
    if kind is not plain:
        raise PassError(
            f"module '{name}' is a {kind.__name__}; a lowered graph that is stored holds IntConv2d, IntConvNeuron, "
            f"NeuronStep, QuantizeInput, {', '.join(_PLAIN)}; lower it with a pass"
        )
    return {"kind": kind.__name__, **{field: _encode_plain(getattr(module, field)) for field in fields}}


def decode_module(name: str, record: Record, tensors: Arrays) -> nn.Module:
    """Inverse of `encode_module`.

    Raises:
        ArtifactError: an unknown kind, a wrong field, or a tensor that is missing or of another shape or dtype.
    """
    kind = record.get("kind", str)
    if kind == "IntConv2d":
        return _decode_conv(name, record, tensors)
    if kind == "NeuronStep":
        return decode_neuron(name, record, tensors)
    if kind == "QuantizeInput":
        return QuantizeInput(decode_levels(record.record("levels")))
    if kind == "IntConvNeuron":
        conv = _decode_conv(f"{name}.conv", record.record("conv"), tensors)
        return IntConvNeuron(conv, decode_neuron(f"{name}.neuron", record.record("neuron"), tensors))
    if kind not in _PLAIN:
        raise record.wrong("kind", "a known kind of module")
    plain, fields = _PLAIN[kind]
    try:
        return plain(**{field: _decode_plain(record, field) for field in fields})
    except (TypeError, ValueError) as error:
        raise record.wrong("kind", f"used with other arguments ({error})") from error


def _encode_conv(name: str, conv: IntConv2d, tensors: dict[str, npt.NDArray[Any]]) -> Object:
    for field in ("weight", "scale", "bias"):
        tensors[f"{name}.{field}"] = getattr(conv, field).detach().cpu().contiguous().numpy()
    return {
        "kind": "IntConv2d",
        "weight": list(conv.weight.shape),
        "levels": encode_levels(conv.levels),
        "stride": list(conv.stride),
        "padding": list(conv.padding),
        "dilation": list(conv.dilation),
        "groups": conv.groups,
        "pattern": None if conv.pattern is None else str(conv.pattern),
        "linear_input": None if conv.linear_input is None else list(conv.linear_input),
        "layer": conv.layer,
        "kernel": conv.kernel,
        "why": conv.why,
    }


def _decode_conv(name: str, record: Record, tensors: Arrays) -> IntConv2d:
    shape = record.sizes("weight", 4, least=1)
    groups = record.get("groups", int)
    if groups < 1 or shape[0] % groups:
        raise record.wrong("groups", f"a divisor of the {shape[0]} output channels")
    conv = IntConv2d(
        stored_tensor(tensors, f"{name}.weight", torch.int8, shape),
        stored_tensor(tensors, f"{name}.scale", torch.float32, shape[:1]),
        stored_tensor(tensors, f"{name}.bias", torch.float32, shape[:1]),
        levels=decode_levels(record.record("levels")),
        stride=_pair(record, "stride", 1),
        padding=_pair(record, "padding", 0),
        dilation=_pair(record, "dilation", 1),
        groups=groups,
    )
    if record.has("linear_input"):
        channels, height, width = record.sizes("linear_input", 3, least=1)
        conv.linear_input = channels, height, width
    conv.pattern = _decode_pattern(record)
    conv.layer, conv.kernel, conv.why = record.get("layer", str), record.get("kernel", str), record.get("why", str)
    return conv


def _decode_pattern(record: Record) -> Pattern | None:
    if not record.has("pattern"):
        return None
    try:
        return Pattern.parse(record.get("pattern", str))
    except PatternError as error:
        raise record.wrong("pattern", "N:M or null") from error


def _pair(record: Record, key: str, least: int) -> tuple[int, int]:
    first, second = record.sizes(key, 2, least=least)
    return first, second


def _encode_plain(value: Any) -> object:
    return list(value) if isinstance(value, tuple | list) else value


def _decode_plain(record: Record, field: str) -> Any:
    """A constructor's argument: a whole number, a truth value, null, or a tuple of whole numbers."""
    value = record.fields.get(field)
    if isinstance(value, list):
        return record.sizes(field, least=-1)
    if value is None and field == "divisor_override":
        return None
    if not isinstance(value, int):
        raise record.wrong(field, "a whole number, a truth value or a list of whole numbers")
    return value
