"""The neurons of SpikingJelly 2.0 (activation_based.neuron) and of `spikenm_compile.neurons` as equations.

    h = charge(x, v)                            membrane potential after the input current x
    s = h >= v_threshold                        or >
    v = where(s, v_reset, h)                    hard reset,   or   v = h - s * v_threshold   soft reset

Time constant τ in steps, decay q per step. The leak pulls to v_reset (hard) or to 0 (soft), where v also begins.
"""

from __future__ import annotations

from typing import Literal

from spikenm_compile.neurons.canonical import Neuron

Fire = Literal[">=", ">"]


def integrate_and_fire(*, v_threshold: float = 1.0, v_reset: float | None = 0.0, fire: Fire = ">=") -> Neuron:
    """IF: h = v + x."""
    return _neuron("h = v + x", {}, v_threshold, v_reset, fire)


def leaky(
    tau: float,
    *,
    decay_input: bool = True,
    v_threshold: float = 1.0,
    v_reset: float | None = 0.0,
    fire: Fire = ">=",
) -> Neuron:
    """LIF: h = v + (x - (v - v_rest)) / τ, or with decay_input=False h = v - (v - v_rest) / τ + x."""
    above = _above_rest(v_reset)
    charge = f"h = v + (x - {above}) / tau" if decay_input else f"h = v - {above} / tau + x"
    return _neuron(charge, {"tau": tau}, v_threshold, v_reset, fire)


def parametric_leaky(
    decay: float,
    *,
    decay_input: bool = True,
    v_threshold: float = 1.0,
    v_reset: float | None = 0.0,
    fire: Fire = ">=",
) -> Neuron:
    """Parametric LIF: h = v + (x - (v - v_rest)) · q, or with decay_input=False h = v - (v - v_rest) · q + x."""
    above = _above_rest(v_reset)
    charge = f"h = v + (x - {above}) * decay" if decay_input else f"h = v - {above} * decay + x"
    return _neuron(charge, {"decay": decay}, v_threshold, v_reset, fire)


def _above_rest(v_reset: float | None) -> str:
    """V - v_rest, where subtracting zero is left out: it changes no number."""
    return "v" if v_reset is None else "(v - v_reset)"


def _neuron(charge: str, constants: dict[str, float], v_threshold: float, v_reset: float | None, fire: Fire) -> Neuron:
    equations = (charge, f"s = h {fire} v_threshold")
    constants = {**constants, "v_threshold": v_threshold}
    if v_reset is None:
        return Neuron((*equations, "v = h - s * v_threshold"), {"v": 0.0}, constants)
    return Neuron((*equations, "v = where(s, v_reset, h)"), {"v": v_reset}, {**constants, "v_reset": v_reset})
