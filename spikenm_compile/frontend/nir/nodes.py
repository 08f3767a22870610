"""A canonical neuron as a NIR neuron: its kind and parameters.

    τ = dt / (1 - decay),   r = gain / (1 - decay),   v_leak = drift / (1 - decay)      LI, LIF
    r = gain / dt                                                                       I, IF, which do not decay
    τ_syn = dt / (1 - decay_syn),   w_in = gain_syn / (1 - decay_syn)                   CubaLI, CubaLIF

These are Euler's steps of NIR's equations, and so what `euler` and `spikingjelly` in `readers` read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from spikenm_compile.errors import InputError
from spikenm_compile.frontend.nir.dynamics import INPUT, Affine, AfterReset, NotAffineError, Spike, Sum, evaluated
from spikenm_compile.frontend.nir.parameters import Array
from spikenm_compile.neurons import Neuron

_RTOL = 1e-5
"""Constants are float32."""


@dataclass(frozen=True)
class NirUnit:
    """Kind and parameters of a NIR neuron, each [] or [C], in float64."""

    kind: str
    parameters: Mapping[str, Array]
    is_soft: bool = False
    """Whether the neuron resets by subtraction, which NIR does not say."""


def nir_unit(owner: str, neuron: Neuron, dt: float) -> NirUnit:
    """The NIR neuron that computes what `neuron` computes, but for the kind of reset and rounding.

    Raises:
        InputError: there is none.
    """
    try:
        values = evaluated(neuron)
        if not neuron.states:
            return _threshold(values[neuron.output])
        return _with_state(neuron, values, dt)
    except NotAffineError as error:
        raise InputError(
            f"neuron '{owner}' ({neuron}) has no form in NIR, whose neurons leak linearly, spike above a constant "
            "threshold and reset their potential at once (I, IF, LI, LIF, CubaLI, CubaLIF); use one of these"
        ) from error


def _threshold(output: Sum) -> NirUnit:
    if not isinstance(output, Spike) or not np.array_equal(output.distance[INPUT], 1.0) or output.scale != 1.0:
        raise NotAffineError
    return NirUnit("Threshold", {"threshold": -output.distance.offset})


def _with_state(neuron: Neuron, values: Mapping[str, Sum], dt: float) -> NirUnit:
    name, current = _roles(neuron, values)
    after, output = values[name], values[neuron.output]
    h = after.h if isinstance(after, AfterReset) else _affine(after)
    if not h.terms.keys() <= {INPUT, name, current}:
        raise NotAffineError
    leak, kind = _leak(h, name, dt)
    synapse, gain = ({}, h[INPUT]) if current is None else _synapse(h, _affine(values[current]), current, dt)
    parameters = {**synapse, **leak, "r": _over(gain, dt if kind == "I" else 1.0 - h[name])}
    if current is not None and kind == "I":
        raise NotAffineError  # NIR has no integrator with a synapse
    if current is not None:
        parameters["tau_mem"] = parameters.pop("tau")
        kind = "CubaLI"
    if neuron.levels is None:
        if not h.equals(_affine(output)) or isinstance(after, AfterReset):
            raise NotAffineError
        return NirUnit(kind, parameters)
    return _spiking(kind, parameters, h, after, output)


def _spiking(kind: str, parameters: Mapping[str, Array], h: Affine, after: Sum, output: Sum) -> NirUnit:
    if not isinstance(output, Spike) or not isinstance(after, AfterReset) or not np.array_equal(output.scale, 1.0):
        raise NotAffineError
    distance = output.distance
    threshold = h.offset - distance.offset
    if not (distance.equals(after.distance) and distance.equals(Affine(h.terms, distance.offset))):
        raise NotAffineError
    if after.amount is not None and not np.allclose(after.amount, threshold, rtol=_RTOL):
        raise NotAffineError
    v_reset = np.zeros_like(threshold) if after.to is None else after.to
    parameters = {**parameters, "v_threshold": threshold, "v_reset": v_reset}
    return NirUnit(f"{kind}F", parameters, is_soft=after.to is None)


def _roles(neuron: Neuron, values: Mapping[str, Sum]) -> tuple[str, str | None]:
    """Names of the potential and of the synaptic current, which depends on itself and the input only."""
    if len(neuron.states) == 1:
        return next(iter(neuron.states)), None
    if len(neuron.states) != 2:
        raise NotAffineError
    for current in neuron.states:
        after = values[current]
        if isinstance(after, Affine) and after.terms.keys() <= {INPUT, current} and not after.offset.any():
            return next(name for name in neuron.states if name != current), current
    raise NotAffineError


def _leak(h: Affine, name: str, dt: float) -> tuple[dict[str, Array], str]:
    """Time constant and rest; a neuron that does not decay has neither."""
    decay = h[name]
    if np.array_equal(decay, np.ones_like(decay)) and not h.offset.any():
        return {}, "I"
    if not bool(((decay >= 0.0) & (decay < 1.0)).all()):
        raise NotAffineError
    return {"tau": _over(np.array(dt), 1.0 - decay), "v_leak": _over(h.offset, 1.0 - decay)}, "LI"


def _synapse(h: Affine, after: Affine, current: str, dt: float) -> tuple[dict[str, Array], Array]:
    """Time constant and weight of the synapse, and the gain of the current after its step."""
    decay, weight = after[current], after[INPUT]
    drives_at_once = np.allclose(h[current] * weight, h[INPUT] * decay, rtol=_RTOL)
    if not drives_at_once or not bool(((decay >= 0.0) & (decay < 1.0) & (weight != 0.0)).all()):
        raise NotAffineError
    return {"tau_syn": _over(np.array(dt), 1.0 - decay), "w_in": _over(weight, 1.0 - decay)}, h[INPUT] / weight


def _over(a: Array, b: Array | float) -> Array:
    return np.asarray(a / b, dtype=np.float64)


def _affine(a: Sum) -> Affine:
    if not isinstance(a, Affine):
        raise NotAffineError
    return a
