"""What SpikingJelly 2.0 writes (activation_based.nir_exchange), and this package: spikes where h >= v_threshold."""

from __future__ import annotations

from spikenm_compile.frontend.nir.parameters import Unit, as_constant
from spikenm_compile.frontend.nir.readers.common import (
    Reset,
    after_reset,
    constants_of,
    decay,
    expect,
    in_steps,
    scaled,
    spiking,
)
from spikenm_compile.neurons import Neuron


def jelly_if(unit: Unit, dt: float, reset: Reset) -> Neuron:
    """IFNode."""
    current, constants = scaled("gain", unit["r"] * dt, "x")
    return spiking(unit, [f"h = v + {current}"], {"v": after_reset(unit, reset)}, constants, ">=", reset)


def jelly_lif(unit: Unit, dt: float, reset: Reset) -> Neuron:
    """LIFNode: r = 1 says decay_input=True, r = tau / dt decay_input=False."""
    above, constants = ("v", {}) if unit.is_close("v_leak", 0.0) else ("(v - v_leak)", constants_of(unit, "v_leak"))
    constants["tau"] = as_constant(in_steps(unit["tau"], dt))
    if unit.is_close("r", unit["tau"] / dt):
        charge = f"h = v - {above} / tau + x"
    else:
        current, gain = scaled("r", unit["r"], "x")
        charge, constants = f"h = v + ({current} - {above}) / tau", {**constants, **gain}
    return spiking(unit, [charge], {"v": unit.first("v_leak")}, constants, ">=", reset)


def jelly_synaptic(unit: Unit, dt: float, reset: Reset) -> Neuron:
    """CUBALIFNode."""
    expect(unit, "v_leak", 0.0, "SpikingJelly")
    expect(unit, "r", unit["tau_mem"] / dt, "SpikingJelly")
    expect(unit, "w_in", unit["tau_syn"] / dt, "SpikingJelly")
    constants = {"c_decay": as_constant(decay(unit["tau_syn"], dt)), "v_decay": as_constant(decay(unit["tau_mem"], dt))}
    charge = ["c = c * c_decay + x", "h = v * v_decay + c"]
    return spiking(unit, charge, {"c": 0.0, "v": after_reset(unit, reset)}, constants, ">=", reset)
