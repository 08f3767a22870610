"""NIR's own equations by Euler's method, k = dt / τ; and the threshold, which has no time.

    i = i + k_syn * (w_in * x - i)            CubaLI, CubaLIF: acts on v in the same step
    h = v + k * (v_leak - v + r * i)          LI, LIF and those; with x for i where there is no synapse
    h = v + dt * r * x                        I, IF
    s = h > v_threshold

Factors that are 1 are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from spikenm_compile.frontend.nir.parameters import Array, Constant, Unit, as_constant
from spikenm_compile.frontend.nir.readers.common import Reset, after_reset, scaled, spiking
from spikenm_compile.neurons import Neuron


def threshold(unit: Unit, _dt: float, _reset: Reset) -> Neuron:
    """A neuron without state: s = x > threshold."""
    return Neuron(("s = x > threshold",), {}, {"threshold": unit.constant("threshold")})


def euler_integrator(unit: Unit, dt: float, _reset: Reset) -> Neuron:
    """I: the potential is the output."""
    current, constants = scaled("gain", unit["r"] * dt, "x")
    return Neuron((f"v = v + {current}",), {"v": 0.0}, constants, output="v", levels=None)


def euler_if(unit: Unit, dt: float, reset: Reset) -> Neuron:
    """IF."""
    current, constants = scaled("gain", unit["r"] * dt, "x")
    return spiking(unit, [f"h = v + {current}"], {"v": after_reset(unit, reset)}, constants, ">", reset)


def euler_leaky(unit: Unit, dt: float, reset: Reset) -> Neuron:
    """LI and LIF."""
    current, constants = scaled("r", unit["r"], "x")
    charge, more = _euler_charge(unit, unit["tau"], dt, current)
    return _read_out_or_spiking(unit, [], charge, {"v": unit.first("v_leak")}, {**constants, **more}, reset)


def euler_synaptic(unit: Unit, dt: float, reset: Reset) -> Neuron:
    """CubaLI and CubaLIF: the current of this step drives the potential of this step."""
    entering, constants = scaled("w_in", unit["w_in"], "x")
    current, gain = scaled("r", unit["r"], "i")
    charge, leak = _euler_charge(unit, unit["tau_mem"], dt, current)
    constants |= {**gain, **leak, "k_syn": as_constant(dt / unit["tau_syn"])}
    states = {"v": unit.first("v_leak"), "i": 0.0}
    return _read_out_or_spiking(unit, [f"i = i + k_syn * ({entering} - i)"], charge, states, constants, reset)


def _euler_charge(unit: Unit, tau: Array, dt: float, current: str) -> tuple[str, dict[str, Constant]]:
    constants: dict[str, Constant] = {"k": as_constant(dt / tau), "v_leak": unit.constant("v_leak")}
    return f"v + k * (v_leak - v + {current})", constants


def _read_out_or_spiking(
    unit: Unit,
    before: Sequence[str],
    charge: str,
    states: Mapping[str, float],
    constants: Mapping[str, Constant],
    reset: Reset,
) -> Neuron:
    if "v_threshold" in unit.parameters:
        return spiking(unit, [*before, f"h = {charge}"], states, constants, ">", reset)
    return Neuron((*before, f"v = {charge}"), states, constants, output="v", levels=None)
