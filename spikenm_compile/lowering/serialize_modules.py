"""Modules of a lowered graph as JSON objects and arrays, and back. The list of kinds is closed: no code is stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from spikenm_compile.errors import ArtifactError, PassError, PatternError
from spikenm_compile.lowering.serialize_records import Object, Record, encode_number
from spikenm_compile.neurons import Charge, Fire, Neuron
from spikenm_compile.ops import IntConv2d, IntConvNeuron, Levels, NeuronStep, QuantizeInput
from spikenm_compile.pattern import Pattern

Arrays = Mapping[str, npt.NDArray[Any]]
"""Tensors by name: `<module>.weight`, `<module>.scale`, `<module>.bias`."""

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
        return _encode_neuron(module)  # type: ignore[arg-type]
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
        return _decode_neuron(record)
    if kind == "QuantizeInput":
        return QuantizeInput(decode_levels(record.record("levels")))
    if kind == "IntConvNeuron":
        conv = _decode_conv(f"{name}.conv", record.record("conv"), tensors)
        return IntConvNeuron(conv, _decode_neuron(record.record("neuron")))
    if kind not in _PLAIN:
        raise record.wrong("kind", "a known kind of module")
    plain, fields = _PLAIN[kind]
    try:
        return plain(**{field: _decode_plain(record, field) for field in fields})
    except (TypeError, ValueError) as error:
        raise record.wrong("kind", f"used with other arguments ({error})") from error


def encode_levels(levels: Levels) -> Object:
    """Levels as a JSON object."""
    return {"low": levels.low, "high": levels.high, "scale": levels.scale}


def decode_levels(record: Record) -> Levels:
    """Inverse of `encode_levels`."""
    levels = Levels(record.get("low", int), record.get("high", int), record.number("scale"))
    if levels.low > levels.high or not levels.scale > 0:
        raise ArtifactError(f"{record.where} of the stored graph has no level ({levels}); build the artifact again")
    return levels


def _encode_neuron(module: NeuronStep) -> Object:
    n = module.neuron
    return {
        "kind": "NeuronStep",
        "charge": n.charge.name,
        "coefficient": encode_number(n.coefficient),
        "v_threshold": encode_number(n.v_threshold),
        "v_reset": None if n.v_reset is None else encode_number(n.v_reset),
        "fire": n.fire.name,
        "layer": module.layer,
    }


def _decode_neuron(record: Record) -> NeuronStep:
    charge, fire = record.get("charge", str), record.get("fire", str)
    if charge not in Charge.__members__:
        raise record.wrong("charge", f"one of {', '.join(Charge.__members__)}")
    if fire not in Fire.__members__:
        raise record.wrong("fire", f"one of {', '.join(Fire.__members__)}")
    coefficient, v_threshold = record.number("coefficient"), record.number("v_threshold")
    v_reset = record.number("v_reset") if record.has("v_reset") else None
    module = NeuronStep(Neuron(Charge[charge], coefficient, v_threshold, v_reset, Fire[fire]))
    module.layer = record.get("layer", str)
    return module


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
        _tensor(tensors, f"{name}.weight", torch.int8, shape),
        _tensor(tensors, f"{name}.scale", torch.float32, shape[:1]),
        _tensor(tensors, f"{name}.bias", torch.float32, shape[:1]),
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


def _tensor(tensors: Arrays, name: str, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    """A copy of a stored tensor."""
    if name not in tensors:
        raise ArtifactError(f"tensor '{name}' of the stored graph is missing; build the artifact again")
    tensor = torch.from_numpy(np.array(tensors[name]))
    if tensor.dtype is not dtype or tuple(tensor.shape) != shape:
        raise ArtifactError(
            f"tensor '{name}' of the stored graph is {tensor.dtype} {list(tensor.shape)}; the graph needs {dtype} "
            f"{list(shape)}; build the artifact again"
        )
    return tensor


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
