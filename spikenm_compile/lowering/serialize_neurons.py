"""Layers of neurons as JSON objects, and back: equations as text, constants per channel as tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from spikenm_compile.errors import InputError
from spikenm_compile.lowering.serialize_records import Object, Record, encode_number
from spikenm_compile.lowering.serialize_values import Arrays, decode_levels, encode_levels, stored_tensor
from spikenm_compile.neurons import Neuron
from spikenm_compile.neurons.canonical import ConstantValue
from spikenm_compile.ops import NeuronStep


def encode_neuron(name: str, module: NeuronStep, tensors: dict[str, npt.NDArray[Any]]) -> Object:
    """The layer as a JSON object; its constants per channel are added to `tensors`."""
    neuron = module.neuron
    tensors |= {f"{name}.{constant}": array for constant, array in channel_arrays(neuron).items()}
    return {
        "kind": "NeuronStep",
        "inputs": list(neuron.inputs),
        "equations": list(neuron.equations),
        "states": {state: encode_number(first) for state, first in neuron.states.items()},
        "constants": {constant: encode_number(value) for constant, value in neuron.scalars.items()},
        "per_channel": {constant: len(values) for constant, values in neuron.per_channel.items()},
        "output": neuron.output,
        "levels": None if neuron.levels is None else encode_levels(neuron.levels),
        "layer": module.layer,
    }


def decode_neuron(name: str, record: Record, tensors: Arrays) -> NeuronStep:
    """Inverse of `encode_neuron`.

    Raises:
        ArtifactError: a wrong field, a missing tensor, or equations that make no neuron.
    """
    sizes, equations = record.record("per_channel"), _texts(record, "equations")
    inputs = _texts(record, "inputs") if record.has("inputs") else ("x",)  # graphs stored before name none
    constants: dict[str, ConstantValue] = dict(_numbers(record.record("constants")))
    for constant in sizes.fields:
        shape = (sizes.get(constant, int),)
        constants[constant] = tuple(stored_tensor(tensors, f"{name}.{constant}", torch.float32, shape).tolist())
    levels = decode_levels(record.record("levels")) if record.has("levels") else None
    states, output = _numbers(record.record("states")), record.get("output", str)
    try:
        module = NeuronStep(Neuron(equations, states, constants, output, levels, inputs))
    except InputError as error:
        raise record.wrong("equations", f"those of a neuron ({error})") from error
    module.layer = record.get("layer", str)
    return module


def channel_arrays(neuron: Neuron) -> dict[str, npt.NDArray[np.float32]]:
    """Constants per channel, float32 [C]."""
    return {constant: np.array(values, np.float32) for constant, values in neuron.per_channel.items()}


def _texts(record: Record, key: str) -> tuple[str, ...]:
    texts = record.get(key, list)
    if not all(isinstance(text, str) for text in texts):
        raise record.wrong(key, "texts")
    return tuple(texts)


def _numbers(record: Record) -> dict[str, float]:
    return {key: record.number(key) for key in record.fields}
