"""The neurons of SpikingJelly 2.0 that charge, fire and reset, besides IF, LIF and ParametricLIF, as equations.

    h = charge(x, v)               membrane potential after the input current x
    s = h >= v_threshold           spikes
    v = where(s, v_reset, h)       hard reset,   or   v = h - s * v_threshold   soft reset (v_reset=None)

Sources: spikingjelly/activation_based/neuron/*.py, functional/neuron.py and _ops/*/reference.py. States bear the names
of the library's memories and start at their reset values; further states are those that a library class keeps unnamed.
What SpikingJelly computes of Python numbers is computed of these here, too, and is a constant.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from spikenm_compile.errors import CaptureError
from spikenm_compile.frontend.constants import constant, initial
from spikenm_compile.levels import SPIKES, Levels
from spikenm_compile.neurons import Neuron

Values = Mapping[str, Any]

_FIRE = ("s = h >= v_threshold",)
_FIRE_TERNARY = ("positive = h >= v_threshold", "negative = -h >= v_threshold", "s = positive - negative")
TERNARY = Levels(-1, 1)

_ACTIVATIONS: tuple[tuple[tuple[Any, ...], str], ...] = (
    ((torch.relu, nn.functional.relu, nn.ReLU), "max(u, 0.0)"),
    ((torch.sigmoid, nn.functional.sigmoid, nn.Sigmoid), "sigmoid(u)"),
    ((torch.abs,), "abs(u)"),
    ((torch.exp,), "exp(u)"),
    ((nn.Identity,), "u"),
)
"""Functions and module classes that a LIAFNode may apply -> the same in equations."""


def _neuron(
    node: Any,
    charge: tuple[str, ...],
    values: Values,
    *,
    fire: tuple[str, ...] = _FIRE,
    after: tuple[str, ...] = (),
    reset: str = "",
    states: tuple[str, ...] = ("v",),
    more_states: Mapping[str, float] = MappingProxyType({}),
    output: str = "s",
    levels: Levels | None = SPIKES,
) -> Neuron:
    """Charge, fire, whatever else reads the spikes, reset (the usual one by default)."""
    _check_surrogate(node)
    check_precision(node)
    kind = type(node).__name__
    usual = "v = h - s * v_threshold" if node.v_reset is None else "v = where(s, v_reset, h)"
    constants = {"v_threshold": node.v_threshold, "v_reset": node.v_reset, **values}
    return Neuron(
        equations=(*charge, *fire, *after, reset or usual),
        states={**{name: initial(kind, name, node.get_reset_value(name)) for name in states}, **more_states},
        constants={name: constant(kind, name, value) for name, value in constants.items() if value is not None},
        output=output,
        levels=levels,
    )


def _check_surrogate(node: Any) -> None:
    if not _is_heaviside(node.surrogate_function):
        raise CaptureError(
            f"the surrogate function of a {type(node).__name__} gives other values than 0 below zero and 1 from zero "
            "on; a canonical neuron emits such spikes; use a surrogate function with spiking=True that draws no random "
            "numbers"
        )


def check_precision(node: Any) -> None:
    """Refuse a precision other than float32.

    Raises:
        CaptureError: the node has one.
    """
    if getattr(node, "_neuron_precision", None) is not None:
        raise CaptureError(
            f"a {type(node).__name__} computes in a precision of its own; a canonical neuron computes in float32; "
            "leave the neuron precision unset"
        )


def _is_heaviside(surrogate_function: Any) -> bool:
    with torch.no_grad():
        if not bool(surrogate_function(torch.zeros(1)) == 1.0):
            return False  # functions that draw from a distribution take probabilities only, and end here
        distance = torch.tensor([-3.0, -1.0, -1e-30, 0.0, 1e-30, 1.0, 3.0])
        return torch.equal(surrogate_function(distance), (distance >= 0.0).to(distance))


def _attributes(node: Any, *names: str) -> Values:
    return {name: getattr(node, name) for name in names}


def _above_rest(node: Any) -> str:
    """V - v_reset, where subtracting zero is left out: it changes no number."""
    return "v" if node.v_reset is None else "(v - v_reset)"


def _leaky(node: Any) -> str:
    above = _above_rest(node)
    return f"v + (x - {above}) / tau" if node.decay_input else f"v - {above} / tau + x"


def lif(node: Any) -> Neuron:
    """SLTT and OTTT train otherwise and infer like LIF."""
    return _neuron(node, (f"h = {_leaky(node)}",), {"tau": node.tau})


def klif(node: Any) -> Neuron:
    """The charge is scaled by a learned k and rectified; with scale_reset the reset works on h / k."""
    k = node.k.detach()
    values = {"tau": node.tau, "k": k}
    reset = ""
    if node.scale_reset and node.v_reset is None:
        values["v_threshold_k"] = node.v_threshold / k
        reset = "v = h / k - s * v_threshold_k"
    elif node.scale_reset:
        reset = "v = where(s, v_reset, h / k)"
    return _neuron(node, (f"h = max(k * ({_leaky(node)}), 0.0)",), values, reset=reset)


def cuba_lif(node: Any) -> Neuron:
    """A synaptic current c, which v follows."""
    charge = ("c = c * c_decay + x", "h = v * v_decay + c")
    return _neuron(node, charge, _attributes(node, "c_decay", "v_decay"), states=("v", "c"))


def qif(node: Any) -> Neuron:
    """Quadratic: the distances from v_rest and from the critical v_c multiply."""
    charge = ("h = v + (x + a0 * (v - v_rest) * (v - v_c)) / tau",)
    return _neuron(node, charge, _attributes(node, "tau", "a0", "v_rest", "v_c"))


def eif(node: Any) -> Neuron:
    """Exponential: not exact."""
    charge = ("h = v + (x + v_rest - v + delta_T * exp((v - theta_rh) / delta_T)) / tau",)
    return _neuron(node, charge, _attributes(node, "tau", "delta_T", "theta_rh", "v_rest"))


def izhikevich(node: Any) -> Neuron:
    """Quadratic, with the adaptation current w."""
    return _neuron(
        node,
        ("h = v + (x + a0 * (v - v_rest) * (v - v_c) - w) / tau",),
        _attributes(node, "tau", "a0", "v_rest", "v_c", "a", "b", "tau_w"),
        after=("w = w + (a * (h - v_rest) - w) / tau_w + b * s",),
        states=("v", "w"),
    )


def raf(node: Any) -> Neuron:
    """Resonate and fire: u and v turn by omega · dt and shrink by e^(b · dt); a spike resets v only."""
    turn = node.omega * node.dt
    return _neuron(
        node,
        ("next_u = decay * (u * cos - v * sin) + x", "h = decay * (u * sin + v * cos)", "u = next_u"),
        {"decay": math.exp(node.b * node.dt), "cos": math.cos(turn), "sin": math.sin(turn)},
        states=("v", "u"),
    )


def ternary_if(node: Any) -> Neuron:
    """Spikes 1 and -1."""
    return _neuron(node, ("h = v + x",), {}, fire=_FIRE_TERNARY, levels=TERNARY)


def ternary_lif(node: Any) -> Neuron:
    """Spikes 1 and -1."""
    return _neuron(node, (f"h = {_leaky(node)}",), {"tau": node.tau}, fire=_FIRE_TERNARY, levels=TERNARY)


def integrate(node: Any) -> Neuron:
    """Sums its input, from whatever v starts at."""
    return _neuron(node, ("h = v + x",), {})


def activation_aware_if(node: Any) -> Neuron:
    """Thresholds and offsets may be one for each channel."""
    values = {name: getattr(node, name).to(torch.float32) for name in ("v_threshold", "v_offset")}
    return _neuron(node, ("h = v + x",), values, fire=("s = h + v_offset >= v_threshold",))


def complementary_lif(node: Any) -> Neuron:
    """A memory m of spikes deepens the reset; not exact."""
    return _neuron(
        node,
        ("h = v - v / tau + x",),
        {"tau": node.tau},
        after=("m = m * sigmoid(h / tau) + s",),
        reset="v = h - s * (v_threshold + sigmoid(m))",
        states=("v", "m"),
    )


def liaf(node: Any) -> Neuron:
    """Emits an activation of the potential; in multi-step mode without store_v_seq the spikes that it inherits."""
    charge, values = (f"h = {_leaky(node)}",), {"tau": node.tau}
    if node.step_mode == "m" and not node.store_v_seq:
        return _neuron(node, charge, values)
    emit = (f"u = {'h - v_threshold' if node.threshold_related else 'h'}", f"y = {_activation(node.act)}")
    return _neuron(node, charge, values, after=emit, output="y", levels=None)


def _activation(act: Any) -> str:
    if getattr(act, "inplace", False):  # it would change the potential that fires and resets
        raise CaptureError(
            f"the act of a LIAFNode is a {type(act).__name__} with inplace=True, which overwrites the potential; "
            "activations that leave it are supported; set inplace=False"
        )
    for known, expression in _ACTIVATIONS:
        if any(act is function or type(act) is function for function in known):
            return expression
    raise CaptureError(
        f"the act of a LIAFNode is {getattr(act, '__name__', type(act).__name__)}; relu, sigmoid, abs and exp of torch "
        "and nn.ReLU, nn.Sigmoid and nn.Identity are supported; use one of these"
    )


def simple_lif(node: Any) -> Neuron:
    """LIF that starts at 0 instead of at v_reset."""
    if node.v_reset is None:
        raise CaptureError(
            "a SimpleLIFNode has v_reset=None, which SpikingJelly 2.0 itself cannot compute; a number is supported; "
            "use LIFNode for a soft reset"
        )
    values = {"tau": node.tau}
    if node.decay_input:
        return _neuron(node, ("h = v + (v_reset - v + x) / tau",), values)
    first_leak = node.v_reset / node.tau  # at the first step v is the Python number 0, and all of this float64
    if torch.equal(torch.as_tensor(first_leak).float(), torch.as_tensor(node.v_reset).float() / node.tau):
        return _neuron(node, ("h = v + (v_reset - v) / tau + x",), values)
    charge = ("leak = where(is_on, (v_reset - v) / tau, first_leak)", "h = v + leak + x", "is_on = max(is_on, 1.0)")
    return _neuron(node, charge, {**values, "first_leak": first_leak}, more_states={"is_on": 0.0})
