"""Notes in the metadata of a NIR graph: what NIR cannot hold, so that a neuron comes back with the same numbers.

A neuron node carries its canonical neuron as JSON, the graph its writer and its time step. Other tools ignore metadata.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from spikenm_compile.errors import InputError
from spikenm_compile.frontend.nir.nodes import NirUnit, nir_unit
from spikenm_compile.frontend.nir.package import kind_of
from spikenm_compile.frontend.nir.parameters import Array, unit_of
from spikenm_compile.neurons import Levels, Neuron

NAME = "spikenm_compile"
_KEY = "spikenm_neuron"
_VERSION = 1
_RTOL = 1e-6
_WRONG = (KeyError, TypeError, ValueError, AttributeError)


def graph_note(dt: float) -> dict[str, Any]:
    """Metadata of a graph."""
    return {"producer": NAME, "dt": dt}


def noted_dt(graph: Any) -> float | None:
    """The time step in a graph's metadata."""
    dt = graph.metadata.get("dt")
    return None if dt is None else float(dt)


def neuron_note(neuron: Neuron, dt: float) -> dict[str, str]:
    """Metadata of a neuron node."""
    levels = neuron.levels
    record = {
        "version": _VERSION,
        "dt": dt,
        "equations": list(neuron.equations),
        "states": dict(neuron.states),
        "constants": dict(neuron.constants),
        "output": neuron.output,
        "levels": None if levels is None else [levels.low, levels.high],
    }
    return {_KEY: json.dumps(record)}


def noted_neuron(name: str, node: Any) -> Neuron | None:
    """The canonical neuron that a node's metadata hold; None: they hold none.

    Raises:
        InputError: the note cannot be read, or the node's parameters are no longer those of it.
    """
    text = node.metadata.get(_KEY)
    if text is None:
        return None
    neuron, dt = _read(name, text)
    if not _agrees(name, node, nir_unit(name, neuron, dt)):
        raise InputError(
            f"node '{name}' ({kind_of(node)}) of the NIR graph was changed after {NAME} wrote it: its parameters are "
            f"not those of the neuron noted in its metadata; give producer={NAME!r}, so that the note is not used"
        )
    return neuron


def _read(name: str, text: Any) -> tuple[Neuron, float]:
    try:
        record = json.loads(text)
        if record["version"] != _VERSION:
            raise ValueError(f"version {record['version']}")
        constants = {n: tuple(v) if isinstance(v, list) else v for n, v in record["constants"].items()}
        levels = None if record["levels"] is None else Levels(*record["levels"])
        equations = tuple(record["equations"])
        return Neuron(equations, record["states"], constants, record["output"], levels), float(record["dt"])
    except (*_WRONG, InputError) as error:
        raise InputError(
            f"the metadata {_KEY} of node '{name}' of the NIR graph cannot be read ({error}); notes of version "
            f"{_VERSION} are supported; give producer={NAME!r}, so that they are not used"
        ) from error


def _agrees(name: str, node: Any, expected: NirUnit) -> bool:
    found = unit_of(name, node)
    same_fields = found.kind == expected.kind and found.parameters.keys() == expected.parameters.keys()
    return same_fields and all(_is_close(found[field], value) for field, value in expected.parameters.items())


def _is_close(found: Array, expected: Array) -> bool:
    """Whether both are the same for every channel; one number stands for all channels."""
    fits = found.ndim == 0 or expected.ndim == 0 or found.shape == expected.shape
    return fits and np.allclose(found, expected, rtol=_RTOL)
