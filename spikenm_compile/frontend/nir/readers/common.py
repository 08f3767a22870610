"""What the readers share: resets, factors that may be 1, parameters that became time constants."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from spikenm_compile.errors import InputError
from spikenm_compile.frontend.nir.parameters import Array, Constant, Unit, as_constant, recovered
from spikenm_compile.neurons import Neuron

Reset = Literal["hard", "soft"]
Reader = Callable[[Unit, float, Reset], Neuron]
"""(parameters, dt, reset) -> the neuron."""

_RESETS: Mapping[Reset, str] = {"hard": "v = where(s, v_reset, h)", "soft": "v = h - s * v_threshold"}


def spiking(
    unit: Unit,
    charge: Sequence[str],
    states: Mapping[str, float],
    constants: Mapping[str, Constant],
    fire: str,
    reset: Reset,
) -> Neuron:
    """A neuron with these equations up to h, threshold and reset."""
    used = constants_of(unit, "v_threshold", *(["v_reset"] if reset == "hard" else []))
    return Neuron((*charge, f"s = h {fire} v_threshold", _RESETS[reset]), states, {**constants, **used})


def constants_of(unit: Unit, *fields: str) -> dict[str, Constant]:
    """Parameters that are constants under their own names."""
    return {field: unit.constant(field) for field in fields}


def after_reset(unit: Unit, reset: Reset) -> float:
    """First potential of a neuron that does not leak: where a reset takes it, or 0."""
    return unit.first("v_reset") if reset == "hard" else 0.0


def scaled(name: str, factor: Array, variable: str) -> tuple[str, dict[str, Constant]]:
    """`variable` times a factor, and the factor as a constant; nothing where it is 1 but for rounding."""
    if np.allclose(factor, 1.0, rtol=1e-6, atol=0.0):
        return variable, {}
    return f"{name} * {variable}", {name: as_constant(factor)}


def in_steps(tau: Array, dt: float) -> Array:
    """τ in steps, of a writer that stores τ · dt."""
    step = tau.dtype.type(dt)
    return recovered(tau, tau / step, lambda steps: steps * step)


def decay(tau: Array, dt: float) -> Array:
    """Decay d per step, of a writer that stores dt / (1 - d), in the precision of the graph."""
    one, step = tau.dtype.type(1.0), tau.dtype.type(dt)
    return recovered(tau, (1.0 - float(step) / tau.astype(np.float64)).astype(tau.dtype), lambda d: step / (one - d))


def tensor(values: Array) -> Tensor:
    """As the float32 tensor that a library computes with."""
    return torch.tensor(values, dtype=torch.float32)


def expect(unit: Unit, field: str, expected: Array | float, library: str) -> None:
    """Refuse a parameter that the library would not have written.

    Raises:
        InputError: it is another number than expected, rounding apart.
    """
    if not unit.is_close(field, expected):
        found, wanted = unit[field].flat[0], np.asarray(expected).flat[0]
        raise InputError(
            f"{unit} has {field} = {found:.6g}, where {library} writes {wanted:.6g}; only what the library writes is "
            "read in its way; name the library that wrote it, or leave producer out and give dt, so that NIR's own "
            "equations hold"
        )
