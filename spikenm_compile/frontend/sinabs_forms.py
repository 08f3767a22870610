"""The update equations of sinabs 3.1 (sinabs/layers/functional/{lif,alif}.py, sinabs/activation/*.py), put together.

    i = alpha_syn * (i + x)              synaptic current, where there is a tau_syn
    h = alpha_mem * v + gain * i         gain = 1 - alpha_mem with norm_input, else 1; alpha_mem = 1 for IAF
    s = h >= v_th                        one spike, or as many as the threshold fits into h:
    s = max(min(trunc(h / v_th), most), 0)
    v = h - s * v_th                     reset by subtraction, or to a value that every neuron gets, spiking or not:
    v = h * (s == 0) + v_reset
    v = max(v - v_min, 0) + v_min        lower bound

A recurrent layer adds u = x + rec first, rec being what its `rec_connect` made of the previous spikes, and u then
stands for x. Symbols: x input current, v membrane potential, i synaptic current, b adaptation of an ALIF threshold
`theta = b0 + scale * b`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

MOST_SPIKES = 63
"""Most spikes of one neuron in one step, for which a byte holds the sum over a 2x2 pool; MultiSpike has no bound."""


class Fire(Enum):
    """What a layer emits in one step."""

    NOTHING = "no spikes: the output is the potential"
    ONE = "a spike where h >= v_th"
    MANY = "as many spikes as the threshold fits into h, up to the constant `most`"


@dataclass(frozen=True)
class Form:
    """Which equations a layer has. Names that they use, besides x and the states, are constants."""

    leaks: bool
    """alpha_mem < 1: LIF and ALIF; IAF does not leak."""
    has_synapse: bool
    norm_input: bool
    fire: Fire
    subtracts: bool
    """Reset by subtraction, else to a value."""
    subtracts_threshold: bool
    """What is subtracted is the threshold, else `v_subtract`."""
    has_floor: bool
    is_adaptive: bool
    is_recurrent: bool = False

    @property
    def entering(self) -> str:
        """The current that enters."""
        return "u" if self.is_recurrent else "x"


def equations(form: Form) -> tuple[str, ...]:
    """All equations of one step."""
    total = ["u = x + rec"] if form.is_recurrent else []
    return (*total, *_current(form), _charge(form), *_fire(form), *_reset(form), *_adapt(form))


def states(form: Form) -> tuple[str, ...]:
    """Names of the states; all start at zero."""
    return ("v", *(["i"] if form.has_synapse else []), *(["b"] if form.is_adaptive else []))


def output(form: Form) -> str:
    """Name of the output: the spikes, or the potential before it meets its lower bound."""
    return "h" if form.fire is Fire.NOTHING else "s"


def _current(form: Form) -> list[str]:
    if not form.has_synapse:
        return []
    filtered = f"alpha_syn * (i + {form.entering})"
    # an ALIF keeps its current as scaled by norm_input, and scales it again in the next step
    return [f"i = gain * ({filtered})" if form.is_adaptive and form.norm_input else f"i = {filtered}"]


def _charge(form: Form) -> str:
    current = "i" if form.has_synapse else form.entering
    scaled_before = form.is_adaptive and form.has_synapse
    entering = f"gain * {current}" if form.norm_input and not scaled_before else current
    return f"h = alpha_mem * v + {entering}" if form.leaks else f"h = v + {entering}"


def _fire(form: Form) -> list[str]:
    if form.fire is Fire.NOTHING:
        return []
    threshold, adapt = ("theta", ["theta = b0 + scale * b"]) if form.is_adaptive else ("v_th", [])
    if form.fire is Fire.ONE:
        return [*adapt, f"s = h >= {threshold}"]
    return [*adapt, f"s = max(min(trunc(h / {threshold}), most), 0.0)"]


def _reset(form: Form) -> list[str]:
    after = _after_spikes(form)
    if not form.has_floor:
        return [f"v = {after}"]
    return [f"r = {after}", "v = max(r - v_min, 0.0) + v_min"]


def _after_spikes(form: Form) -> str:
    if form.fire is Fire.NOTHING:
        return "h"
    if not form.subtracts:
        return "h * (s == 0.0) + v_reset"
    threshold = "theta" if form.is_adaptive else "v_th"
    return f"h - s * {threshold if form.subtracts_threshold else 'v_subtract'}"


def _adapt(form: Form) -> list[str]:
    return ["b = alpha_adapt * b + rise * s"] if form.is_adaptive else []
