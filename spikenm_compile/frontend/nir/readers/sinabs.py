"""What sinabs 3.1 writes (sinabs.nir): time constants in steps, several spikes a step, reset by subtraction."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from spikenm_compile.errors import InputError
from spikenm_compile.frontend.constants import constant
from spikenm_compile.frontend.nir.parameters import Unit
from spikenm_compile.frontend.nir.readers.common import Reset, expect, tensor
from spikenm_compile.frontend.sinabs_forms import MOST_SPIKES, Fire, Form, equations, output
from spikenm_compile.neurons import Levels, Neuron


def sinabs_iaf(unit: Unit, _dt: float, reset: Reset) -> Neuron:
    """IAF."""
    return _sinabs(unit, reset, leaks=False, norm_input=False, fire=Fire.MANY, alpha=None)


def sinabs_lif(unit: Unit, dt: float, reset: Reset) -> Neuron:
    """LIF with norm_input=True, the library's default."""
    return _sinabs(unit, reset, leaks=True, norm_input=True, fire=Fire.MANY, alpha=_exponential(unit, dt))


def sinabs_exp_leak(unit: Unit, dt: float, reset: Reset) -> Neuron:
    """ExpLeak with norm_input=False, the library's default."""
    return _sinabs(unit, reset, leaks=True, norm_input=False, fire=Fire.NOTHING, alpha=_exponential(unit, dt))


def _exponential(unit: Unit, dt: float) -> Tensor:
    """Decay per step; tau is in steps of the graph where dt = 1."""
    return torch.exp(-1.0 / tensor(unit["tau"] / unit["tau"].dtype.type(dt)))


def _sinabs(unit: Unit, reset: Reset, *, leaks: bool, norm_input: bool, fire: Fire, alpha: Tensor | None) -> Neuron:
    expect(unit, "r", 1.0, "sinabs")
    if leaks:
        expect(unit, "v_leak", 0.0, "sinabs")
    soft = reset == "soft" and fire is not Fire.NOTHING
    form = Form(leaks, False, norm_input, fire, soft, soft, False, False)
    values: dict[str, Any] = {}
    if alpha is not None:
        values["alpha_mem"] = alpha
        values |= {"gain": 1 - alpha} if norm_input else {}
    if fire is Fire.MANY:
        if not bool((unit["v_threshold"] > 0).all()):
            raise InputError(f"{unit} counts spikes in thresholds, which must be above zero; raise v_threshold")
        values |= {"v_th": tensor(unit["v_threshold"]), "most": MOST_SPIKES}
        values |= {} if soft else {"v_reset": tensor(unit["v_reset"])}
    constants = {name: constant(unit.kind, name, value) for name, value in values.items()}
    levels = Levels(0, MOST_SPIKES) if fire is Fire.MANY else None
    return Neuron(equations(form), {"v": 0.0}, constants, output(form), levels)
