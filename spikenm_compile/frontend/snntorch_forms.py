"""The update equations of snnTorch 1.0, class by class, as texts in evaluation order (snntorch/_neurons/*.py).

    r = mem > threshold      from the potential *before* the step: a spike resets one step late
    f, h                     potential after the input, and after that reset
    s = h > threshold        spikes
    d = s - r                with reset_delay=False: the reset that is still due, taken at once

Symbols: x input current, mem membrane potential, syn, syn_exc, syn_inh synaptic currents; of a neuron that feeds itself
spk the previous spikes and rec the current that they make, by a constant V or a layer. `subtract` takes the threshold
off, `zero` the potential, `none` nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

Constants = Mapping[str, Tensor]
Resets = Mapping[str, tuple[str, ...]]

THRESHOLD, GAIN = "threshold", "gain"
PREVIOUS_SPIKES = "spk"
"""State that is the output of the step before."""
FEEDBACK = "rec"
"""Current that the previous spikes make."""
ONE_TO_ONE = f"{FEEDBACK} = {PREVIOUS_SPIKES} * V"
LATE_RESET = "r = mem > threshold"
FIRE = "s = h > threshold"
AT_ONCE = {"subtract": "mem = h - d * threshold", "zero": "mem = h - d * h", "none": "mem = h"}
"""By reset mechanism: how reset_delay=False ends a step."""


@dataclass(frozen=True)
class Form:
    """One class of neurons."""

    states: tuple[str, ...]
    """In the order of forward's arguments and results."""
    charge: tuple[str, ...]
    """Equations up to f, for every reset mechanism."""
    resets: Resets
    """Reset mechanism -> equations up to h."""
    constants: Callable[[Any], Constants]
    """Values of the other names, as the module computes them."""


_ON_POTENTIAL: Resets = MappingProxyType(
    {"subtract": ("h = f - r * threshold",), "zero": ("h = f - r * f",), "none": ("h = f",)}
)
_LEAKY: Resets = MappingProxyType(
    {
        "subtract": ("h = beta * mem + x - r * threshold",),
        "zero": ("h = beta * ((1.0 - r) * mem) + x",),
        "none": ("h = beta * mem + x",),
    }
)
_ALPHA: Resets = MappingProxyType(
    {
        "subtract": ("h = f - (-syn_inh) * r", "syn_inh = n - n * r", "syn_exc = e - threshold * r"),
        "zero": ("h = f - f * r", "syn_inh = n - n * r", "syn_exc = e - e * r"),
        "none": ("h = f", "syn_inh = n", "syn_exc = e"),
    }
)


def _beta(node: Any) -> Constants:
    return {"beta": node.beta.clamp(0, 1)}


def _alpha_beta(node: Any) -> Constants:
    return {"alpha": node.alpha.clamp(0, 1), "beta": node.beta.clamp(0, 1)}


def _double_exponential(node: Any) -> Constants:
    alpha, beta = node.alpha.clamp(0, 1), node.beta.clamp(0, 1)
    log_alpha, log_beta = torch.log(alpha), torch.log(beta)
    return {"alpha": alpha, "beta": beta, "tau_alpha": log_alpha / (log_beta - log_alpha) + 1}


def _circuit(node: Any) -> Constants:
    rate, keep = 1 / (node.R * node.C), 1 - (node.time_step / (node.R * node.C))
    return {"R": node.R, "rate": rate, "time_step": node.time_step, "keep": keep}


def _beta_feedback(node: Any) -> Constants:
    return {**_beta(node), **_one_to_one(node)}


def _alpha_beta_feedback(node: Any) -> Constants:
    return {**_alpha_beta(node), **_one_to_one(node)}


def _one_to_one(node: Any) -> Constants:
    return {"V": node.recurrent.V} if hasattr(node.recurrent, "V") else {}


FORMS: Mapping[str, Form] = MappingProxyType(
    {
        "Leaky": Form(("mem",), (), _LEAKY, _beta),
        "Synaptic": Form(("syn", "mem"), ("syn = alpha * syn + x", "f = beta * mem + syn"), _ON_POTENTIAL, _alpha_beta),
        "Alpha": Form(
            ("syn_exc", "syn_inh", "mem"),
            ("e = alpha * syn_exc + x", "n = beta * syn_inh - x", "f = tau_alpha * (e + n)"),
            _ALPHA,
            _double_exponential,
        ),
        "Lapicque": Form(("mem",), ("f = x * R * rate * time_step + keep * mem",), _ON_POTENTIAL, _circuit),
        "RLeaky": Form(("spk", "mem"), ("f = beta * mem + x + rec",), _ON_POTENTIAL, _beta_feedback),
        "RSynaptic": Form(
            ("spk", "syn", "mem"),
            ("syn = alpha * syn + x + rec", "f = beta * mem + syn"),
            _ON_POTENTIAL,
            _alpha_beta_feedback,
        ),
    }
)
"""Class name -> its equations."""


def equations(
    form: Form, reset_mechanism: str, *, reset_delay: bool, graded: bool, one_to_one: bool = False
) -> tuple[str, ...]:
    """All equations of one step.

    Args:
        form: of the neuron's class.
        reset_mechanism: `subtract`, `zero` or `none`.
        reset_delay: whether a spike resets the potential one step later only.
        graded: whether spikes are multiplied by `gain`; the output is then `out`, else `s`.
        one_to_one: whether each neuron feeds itself by the constant V.
    """
    resets = reset_mechanism != "none"
    at_once = resets and not reset_delay
    due = "d = out / gain - r" if graded else "d = s - r"
    return (
        *([LATE_RESET] if resets else []),
        *([ONE_TO_ONE] if one_to_one else []),
        *form.charge,
        *form.resets[reset_mechanism],
        FIRE,
        *(["out = s * gain"] if graded else []),
        *([due] if at_once else []),
        AT_ONCE[reset_mechanism] if at_once else "mem = h",
        *(["spk = out" if graded else "spk = s"] if one_to_one else []),
    )
