"""What snnTorch 1.0 writes (snntorch.export_nir), with the reset one step late that its neurons have by default."""

from __future__ import annotations

from collections.abc import Mapping

from spikenm_compile.frontend import snntorch_forms
from spikenm_compile.frontend.nir.parameters import Array, Unit, as_constant
from spikenm_compile.frontend.nir.readers.common import Reset, decay, expect
from spikenm_compile.neurons import Neuron


def snntorch_leaky(unit: Unit, dt: float, reset: Reset) -> Neuron:
    """Leaky."""
    expect(unit, "r", unit["tau"] / dt, "snnTorch")
    return _snntorch("Leaky", unit, reset, {"beta": decay(unit["tau"], dt)})


def snntorch_synaptic(unit: Unit, dt: float, reset: Reset) -> Neuron:
    """Synaptic."""
    expect(unit, "r", unit["tau_mem"] / dt, "snnTorch")
    expect(unit, "w_in", unit["tau_syn"] / dt, "snnTorch")
    decays = {"alpha": decay(unit["tau_syn"], dt), "beta": decay(unit["tau_mem"], dt)}
    return _snntorch("Synaptic", unit, reset, decays)


def _snntorch(kind: str, unit: Unit, reset: Reset, decays: Mapping[str, Array]) -> Neuron:
    expect(unit, "v_leak", 0.0, "snnTorch")
    if reset == "hard":
        expect(unit, "v_reset", 0.0, "snnTorch")
    form = snntorch_forms.FORMS[kind]
    mechanism = {"hard": "zero", "soft": "subtract"}[reset]
    steps = snntorch_forms.equations(form, mechanism, reset_delay=True, graded=False)
    constants = {name: as_constant(value) for name, value in decays.items()}
    return Neuron(steps, dict.fromkeys(form.states, 0.0), {**constants, "threshold": unit.constant("v_threshold")})
