"""The update equations of norse 1.1, function by function, as texts in evaluation order (norse/torch/functional/*.py).

    j = i + x                          current after the input
    h = v + k * (v_leak - v + j)       potential after one Euler step, k = dt · τ_mem⁻¹
    i = j + d * j                      current after its decay, d = −dt · τ_syn⁻¹
    s = h > v_th                       spikes

Rates are products with dt that norse rounds to float32 before it multiplies a state, so that they are constants here.
Symbols: x input current, v membrane potential, i synaptic current, b adaptive threshold, a adaptation current, rho
refractory steps left; of a recurrent neuron rec, the current of the previous spikes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

Constants = Mapping[str, Any]

POTENTIAL = "v"
"""Output of the forms that do not spike."""
_FIRE = "s = h > v_th"
_HARD_RESET = "v = where(s, v_reset, h)"
_SOFT_RESET = "v = where(s, h - v_th, h)"
_CURRENT = "j = i + x"
_DECAY = "i = j + d * j"


@dataclass(frozen=True)
class Form:
    """One step function."""

    equations: tuple[str, ...]
    states: Mapping[str, str | None]
    """State -> the constant that it starts at; None: zero. In the order of norse's state tuple."""
    constants: Callable[[Any, float], Constants]
    """(parameters, dt) -> values of the other names, in the arithmetic of norse."""
    state_type: str
    """Class of norse.torch whose fields are the states."""
    output: str = "s"
    inputs: tuple[str, ...] = ("x",)


def recurrent(form: Form, state_type: str) -> Form:
    """The form with the current of the previous spikes, which norse adds behind that of the input."""
    equations = tuple(f"{e} + rec" if e.endswith("+ x") else e for e in form.equations)
    return replace(form, equations=equations, state_type=state_type, inputs=("x", "rec"))


def _lif(p: Any, dt: float) -> Constants:
    return {"k": dt * p.tau_mem_inv, "d": -dt * p.tau_syn_inv, **_potentials(p)}


def _potentials(p: Any) -> Constants:
    return {"v_leak": p.v_leak, "v_th": p.v_th, "v_reset": p.v_reset}


def _lif_box(p: Any, dt: float) -> Constants:
    return {"k": dt * p.tau_mem_inv, **_potentials(p)}


def _lif_box_soft(p: Any, dt: float) -> Constants:
    return {"k": dt * p.tau_mem_inv, "v_leak": p.v_leak, "v_th": p.v_th}


def _integrate(p: Any, dt: float) -> Constants:
    return {"v_th": p.v_th, "v_reset": p.v_reset}


def _integrator(p: Any, dt: float) -> Constants:
    return {"k": dt * p.tau_mem_inv, "d": -dt * p.tau_syn_inv, "v_leak": p.v_leak}


def _integrator_box(p: Any, dt: float) -> Constants:
    return {"k": dt * p.tau_mem_inv, "v_leak": p.v_leak}


def _refractory(p: Any, dt: float) -> Constants:
    return {**_lif(p.lif, dt), "rho_reset": p.rho_reset}


def _exponential(p: Any, dt: float) -> Constants:
    return {**_lif(p, dt), "delta_T": p.delta_T}


def _adaptive_exponential(p: Any, dt: float) -> Constants:
    adaptation = {"ka": dt * p.tau_ada_inv, "gain": p.adaptation_current, "jump": p.adaptation_spike}
    return {**_exponential(p, dt), **adaptation}


def _lsnn(p: Any, dt: float) -> Constants:
    return {**_lif(p, dt), "kb": dt * p.tau_adapt_inv, "beta": p.beta}


_V = MappingProxyType({"v": "v_leak"})
_V_I = MappingProxyType({"v": "v_leak", "i": None})

LIF = Form((_CURRENT, "h = v + k * (v_leak - v + j)", _DECAY, _FIRE, _HARD_RESET), _V_I, _lif, "LIFFeedForwardState")
LIF_BOX = Form(("h = v + k * (x + v_leak - v)", _FIRE, _HARD_RESET), _V, _lif_box, "LIFBoxFeedForwardState")
LIF_BOX_SOFT = Form(("h = v + k * (x + v_leak - v)", _FIRE, _SOFT_RESET), _V, _lif_box_soft, "LIFBoxFeedForwardState")
IAF = Form(("h = v + x", _FIRE, _HARD_RESET), MappingProxyType({"v": "v_reset"}), _integrate, "IAFFeedForwardState")
LI = Form((_CURRENT, "v = v + k * (v_leak - v + j)", _DECAY), _V_I, _integrator, "LIState", output=POTENTIAL)
LI_BOX = Form(("v = v + k * (v_leak - v + x)",), _V, _integrator_box, "LIBoxState", output=POTENTIAL)
LIF_REFRAC = Form(
    (
        _CURRENT,
        "h = v + k * (v_leak - v + j)",
        _DECAY,
        "z = h > v_th",
        "m = rho > 0.0",
        "s = where(m, 0.0, z)",
        "v = where(m, v, where(z, v_reset, h))",  # a spike that the refractory time hides resets nothing
        "rho = where(s, rho_reset, max(rho - m, 0.0))",
    ),
    MappingProxyType({**_V_I, "rho": None}),
    _refractory,
    "LIFRefracFeedForwardState",
)
LIF_EX = Form(
    (
        _CURRENT,
        "e = delta_T * exp((v - v_th) / delta_T)",
        "h = v + k * (v_leak - v + e + j)",
        _DECAY,
        _FIRE,
        _HARD_RESET,
    ),
    _V_I,
    _exponential,
    "LIFExFeedForwardState",
)
LIF_ADEX = Form(
    (
        _CURRENT,
        "e = delta_T * exp((v - v_th) / delta_T)",
        "h = v + k * (v_leak - v + e + j - a)",
        _DECAY,
        "c = a + ka * (gain * (v - v_leak) - a)",
        _FIRE,
        _HARD_RESET,
        "a = c + s * jump",
    ),
    MappingProxyType({**_V_I, "a": None}),
    _adaptive_exponential,
    "LIFAdExFeedForwardState",
)
LSNN = Form(
    (
        "h = v + k * (v_leak - v + i)",
        "c = b + kb * (v_th - b)",
        "s = h > c",
        "i = i + d * i + x",  # the input acts one step later
        _HARD_RESET,
        "b = c + s * beta",
    ),
    MappingProxyType({**_V_I, "b": "v_th"}),
    _lsnn,
    "LSNNFeedForwardState",
)

FORMS: Mapping[tuple[str, str], Form] = MappingProxyType(
    {
        ("functional.lif", "lif_feed_forward_step"): LIF,
        ("functional.lif_box", "lif_box_feed_forward_step"): LIF_BOX,
        ("functional.iaf", "iaf_feed_forward_step"): IAF,
        ("functional.leaky_integrator", "li_feed_forward_step"): LI,
        ("functional.leaky_integrator_box", "li_box_feed_forward_step"): LI_BOX,
        ("functional.lif_refrac", "lif_refrac_feed_forward_step"): LIF_REFRAC,
        ("functional.lif_ex", "lif_ex_feed_forward_step"): LIF_EX,
        ("functional.lif_adex", "lif_adex_feed_forward_step"): LIF_ADEX,
        ("functional.lsnn", "lsnn_feed_forward_step"): LSNN,
        ("functional.adjoint.lsnn_adjoint", "lsnn_feed_forward_adjoint_step"): LSNN,
        ("functional.lif", "lif_step"): recurrent(LIF, "LIFState"),
        ("functional.lif_refrac", "lif_refrac_step"): recurrent(LIF_REFRAC, "LIFRefracState"),
        ("functional.lif_ex", "lif_ex_step"): recurrent(LIF_EX, "LIFExState"),
        ("functional.lif_adex", "lif_adex_step"): recurrent(LIF_ADEX, "LIFAdExState"),
        ("functional.lsnn", "lsnn_step"): recurrent(LSNN, "LSNNState"),
        ("functional.adjoint.lsnn_adjoint", "lsnn_adjoint_step"): recurrent(LSNN, "LSNNState"),
    }
)
"""(module of norse.torch, step function) -> its equations."""
