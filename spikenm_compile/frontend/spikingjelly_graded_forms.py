"""The neurons of SpikingJelly 2.0 that emit something else than spikes 0 and 1, or keep no potential, as equations.

    ILIFNode           s = round(h / v_threshold) spikes at once, 0..max_spike_count
    DSRIFNode, -LIF    spikes as high as the learned threshold
    STBIFNode          spikes -1, 0, 1 times q_threshold, as long as their sum stays inside of the quantiser's range
    NonSpiking*        the membrane potential, or what `decode` makes of it over time

Sources: spikingjelly/activation_based/neuron/{ilif,dsr,spikezip,base_node}.py and _ops/{ilif,stbif}/reference.py. What
SpikingJelly computes of Python numbers is computed of these here, too, and is a constant.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from spikenm_compile.equations import LARGEST
from spikenm_compile.errors import CaptureError
from spikenm_compile.frontend.constants import constant, initial
from spikenm_compile.frontend.spikingjelly_spiking_forms import TERNARY, Values, check_precision
from spikenm_compile.levels import LARGEST_COUNT, Levels
from spikenm_compile.neurons import Neuron

DECODERS: Mapping[str, tuple[Mapping[str, float], tuple[str, ...], str]] = MappingProxyType(
    {
        "max-mem": ({"v_high": -LARGEST}, ("v_high = max(v, v_high)",), "v_high"),
        "max-abs-mem": (
            {"v_high": -LARGEST, "v_low": LARGEST},
            ("v_high = max(v, v_high)", "v_low = min(v, v_low)", "y = where(abs(v_high) > abs(v_low), v_high, v_low)"),
            "y",
        ),
        "mean-mem": ({"v_sum": 0.0, "n": 0.0}, ("v_sum = v_sum + v", "n = n + 1.0", "y = v_sum / n"), "y"),
        "last_mem": ({}, (), "v"),
    }
)
"""`decode` of a non-spiking neuron -> further states, further equations, output. The output of the last step is what
the library returns for the sequence (mean-mem: up to the order of its additions); with any other `decode` it returns a
list of the potentials of all steps."""


def ilif(node: Any) -> Neuron:
    """Integer spikes; the decay is a factor in multi-step mode and a quotient in single-step mode."""
    check_precision(node)
    function = node.surrogate_function
    most = int(getattr(function, "max_spike_count", 0))
    if not (function.spiking and 0 < most <= LARGEST_COUNT):
        raise CaptureError(
            f"an ILIFNode emits up to {most} spikes a step with spiking={function.spiking}; MultiLevelSpikeCount of up "
            f"to {LARGEST_COUNT} with spiking=True is supported; use that as its surrogate function"
        )
    is_multi_step = node.step_mode == "m"
    kept = {"keep": 1 - 1 / node.tau} if is_multi_step else {"tau": node.tau}
    return Neuron(
        equations=(
            "h = keep * v + x" if is_multi_step else "h = v - v / tau + x",
            "s = round(min(max(h / v_threshold, 0.0), most))",
            "v = h - s * v_threshold",
        ),
        states={"v": initial("ILIFNode", "v", node.get_reset_value("v"))},
        constants={**kept, "v_threshold": node.v_threshold, "most": most},
        levels=Levels(0, most),
    )


def non_spiking(node: Any) -> Neuron:
    """The output is the membrane potential, decoded."""
    tau = getattr(node, "tau", None)
    states, decode, output = DECODERS.get(node.decode, DECODERS["last_mem"])
    return Neuron(
        equations=("v = v + x" if tau is None else "v = v + (x - v) / tau", *decode),
        states={"v": 0.0, **states},
        constants={} if tau is None else {"tau": constant(type(node).__name__, "tau", tau)},
        output=output,
        levels=None,
    )


def dsr_if(node: Any) -> Neuron:
    """Spikes as high as the threshold."""
    return _dsr(node, "h = v + x", {}, ("y = z * v_threshold", "v = h - y"))


def dsr_lif(node: Any) -> Neuron:
    """Spikes as high as the threshold, per delta_t."""
    decay = math.exp(-node.delta_t / node.tau)
    values = {"decay": decay, "gain": 1 - decay, "delta_t": node.delta_t}
    charge = "h = decay * v + gain * x"
    return _dsr(node, charge, values, ("height = z * v_threshold", "v = h - height", "y = height / delta_t"))


def _dsr(node: Any, charge: str, values: Values, emit: tuple[str, ...]) -> Neuron:
    """Spikes as high as the learned threshold; a potential of `alpha` of it is enough for one."""
    threshold = node.v_threshold.detach().clamp(min=node.v_threshold_lower_bound)
    constants = {**values, "v_threshold": threshold, "enough": node.alpha * threshold}
    return Neuron(
        equations=(charge, "z = h >= enough", *emit),
        states={"v": 0.0},
        constants={name: constant(type(node).__name__, name, value) for name, value in constants.items()},
        output="y",
        levels=None,
    )


def stbif(node: Any) -> Neuron:
    """Without the rounding of acc_q, which counts, and the memory cur_output, which nothing reads."""
    names = ("q_threshold", "pos_max", "neg_min")
    is_unit = bool(node.q_threshold == 1.0)
    return Neuron(
        equations=(
            "p = q + x / q_threshold",
            "positive = (p >= 1.0) * (acc_q < pos_max)",
            "negative = (p < 0.0) * (acc_q > neg_min)",
            "s = positive - negative",
            "q = p - positive + negative",
            "acc_q = acc_q + s",
            *(() if is_unit else ("y = s * q_threshold",)),
        ),
        states={"q": 0.5, "acc_q": 0.0},
        constants={name: constant("STBIFNode", name, getattr(node, name)) for name in names},
        output="s" if is_unit else "y",
        levels=TERNARY if is_unit else None,
    )
