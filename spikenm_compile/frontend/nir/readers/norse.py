"""What norse 1.1 writes (norse.torch.utils.export_nir): dt / rate, where the rate of a cell is in 1/s.

Only LIFBoxCell can reset softly; the other cells reset to a value whatever `reset` says.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from spikenm_compile.frontend import norse_forms
from spikenm_compile.frontend.constants import constant
from spikenm_compile.frontend.nir.parameters import Array, Unit, recovered
from spikenm_compile.frontend.nir.readers.common import Reset, expect, tensor
from spikenm_compile.neurons import SPIKES, Neuron


def norse_if(unit: Unit, dt: float, _reset: Reset) -> Neuron:
    """IAFCell."""
    return _norse(norse_forms.IAF, unit, dt)


def norse_lif(unit: Unit, dt: float, reset: Reset) -> Neuron:
    """LIFBoxCell with reset_value or reset_subtract."""
    return _norse(norse_forms.LIF_BOX_SOFT if reset == "soft" else norse_forms.LIF_BOX, unit, dt)


def norse_synaptic(unit: Unit, dt: float, _reset: Reset) -> Neuron:
    """LIFCell."""
    expect(unit, "w_in", 1.0, "norse")
    return _norse(norse_forms.LIF, unit, dt)


def norse_integrator(unit: Unit, dt: float, _reset: Reset) -> Neuron:
    """LIBoxCell."""
    return _norse(norse_forms.LI_BOX, unit, dt)


def _norse(form: norse_forms.Form, unit: Unit, dt: float) -> Neuron:
    expect(unit, "r", 1.0, "norse")
    names = {"tau": "tau_mem_inv", "tau_mem": "tau_mem_inv", "tau_syn": "tau_syn_inv", "v_threshold": "v_th"}
    given = {
        names.get(field, field): tensor(rate_of(value, dt) if field.startswith("tau") else value)
        for field, value in unit.parameters.items()
    }
    values = form.constants(SimpleNamespace(**given), dt)
    fields = {name: field for field, name in names.items() if not field.startswith("tau")}
    return Neuron(
        form.equations,
        {state: 0.0 if at is None else unit.first(fields.get(at, at)) for state, at in form.states.items()},
        {name: constant(unit.kind, name, value) for name, value in values.items()},
        form.output,
        None if form.output == norse_forms.POTENTIAL else SPIKES,
    )


def rate_of(tau: Array, dt: float) -> Array:
    """The rate 1/s of a norse cell, which writes dt / rate as reciprocal(rate) · dt."""
    one, step = tau.dtype.type(1.0), tau.dtype.type(dt)
    return recovered(tau, (dt / tau.astype(np.float64)).astype(tau.dtype), lambda rate: (one / rate) * step)
