"""Layers of SpikingJelly 2.0: those that are a plain layer of PyTorch at each step, and why the others are not.

    WSConv2d, WSLinear            Conv2d and Linear with the standardised weight, computed once
    ThresholdDependentBatchNorm   BatchNorm: its factor alpha * v_th is the first value of its weight
    VotingLayer                   AvgPool1d over the classes
    Dropout                       nothing: its mask is all ones in evaluation

The two that keep a trace of their input have equations of their own, as neurons that emit real numbers:

    SynapseFilter    y = (y - (1 - x) * y * q) + x           q = 1 / tau, or sigmoid(w)
    Delay            y = first; first = second; ...; last = x

Sources: spikingjelly/activation_based/layer/{stateless_wrapper,bn,misc,dropout}.py and functional/layer.py.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from torch import nn

from spikenm_compile.errors import CaptureError
from spikenm_compile.frontend.layers import plain_view
from spikenm_compile.neurons import Neuron
from spikenm_compile.neurons.canonical import MAX_EQUATIONS

_STEPWISE = frozenset(
    {
        *(
            f"{kind}{n}d"
            for kind in ("Conv", "ConvTranspose", "BatchNorm", "MaxPool", "AvgPool", "AdaptiveAvgPool")
            for n in (1, 2, 3)
        ),
        "Linear",
        "Flatten",
        "GroupNorm",
        "Upsample",
    }
)
"""Layers named as in torch.nn that compute the same at each step."""


def layer_class(name: str) -> Any:
    """Class of the library's `layer` package if that is already imported, or None."""
    return getattr(sys.modules.get("spikingjelly.activation_based.layer"), name, None)


def plain_layer(module: nn.Module) -> nn.Module | None:
    """Plain torch layer that computes one step of `module`; None: not a layer of the library.

    Raises:
        CaptureError: a layer of the library that no step graph holds.
    """
    dropout = layer_class("Dropout")
    if dropout is not None and isinstance(module, dropout):
        return nn.Identity()
    name = type(module).__name__
    if type(module) is not layer_class(name):
        return None
    if name in _REFUSED:
        raise CaptureError(f"SpikingJelly's {name} {_REFUSED[name]}")
    if name in _STEPWISE:
        return plain_view(module, getattr(nn, name))
    make = _MADE.get(name)
    return None if make is None else make(module)


def _standardised(module: Any) -> nn.Module:
    """The layer with the weight that its `get_weight` gives now."""
    plain = plain_view(module, nn.Conv2d if isinstance(module, nn.Conv2d) else nn.Linear)
    plain.weight = nn.Parameter(module.get_weight().detach(), requires_grad=False)
    plain._parameters.pop("gain", None)
    return plain


def _threshold_dependent(module: nn.Module) -> nn.Module:
    return plain_view(module, getattr(nn, type(module).__name__.removeprefix("ThresholdDependent")))


def _voting(module: Any) -> nn.Module:
    return nn.AvgPool1d(module.voting_size, module.voting_size).eval()


_MADE: Mapping[str, Callable[[Any], nn.Module]] = MappingProxyType(
    {
        "WSConv2d": _standardised,
        "WSLinear": _standardised,
        **{f"ThresholdDependentBatchNorm{n}d": _threshold_dependent for n in (1, 2, 3)},
        "VotingLayer": _voting,
    }
)
"""Layers that need more than another class."""

_ONE_PER_STEP = (
    "normalises each time step in another way; a step graph computes the same at every step; use BatchNorm or "
    "ThresholdDependentBatchNorm"
)
_TIME_LAST = (
    "runs its layers under torch.vmap, with time in the last dimension; a step graph needs to see them; use "
    "SeqToANNContainer or MultiStepContainer on [T, B, ...]"
)
_REFUSED: Mapping[str, str] = MappingProxyType(
    {
        **{f"TemporalEffectiveBatchNorm{n}d": _ONE_PER_STEP for n in (1, 2, 3)},
        **{f"BatchNormThroughTime{n}d": _ONE_PER_STEP for n in (1, 2, 3)},
        "NeuNorm": "keeps a trace of the sum over all channels; a state of a step graph is one neuron's; use BatchNorm",
        **dict.fromkeys(("TLastSeqToANNContainer", "TLastMultiStepContainer"), _TIME_LAST),
        "DropConnectLinear": "draws random numbers in evaluation too; a step graph draws none; use Linear",
    }
)
"""Layer -> what it does, what a step graph does instead, and the way out."""


def synapse_filter(node: Any) -> Neuron:
    """A leaky trace of the input, which is also the output."""
    reciprocal = float(node.w.detach().sigmoid()) if node.learnable else 1.0 / node.tau
    return Neuron(
        equations=("out_i = out_i - (1.0 - x) * out_i * q + x",),
        states={"out_i": 0.0},
        constants={"q": reciprocal},
        output="out_i",
        levels=None,
    )


def delay(node: Any) -> Neuron:
    """The input of `delay_steps` steps ago, zero before the first."""
    if node.delay_steps >= MAX_EQUATIONS:
        raise CaptureError(
            f"a Delay holds {node.delay_steps} steps; up to {MAX_EQUATIONS - 1} are supported; put several behind "
            "one another"
        )
    queue = [f"queue_{i}" for i in range(node.delay_steps)]
    places = ["y", *queue]
    return Neuron(
        equations=tuple(f"{place} = {value}" for place, value in zip(places, [*queue, "x"], strict=True)),
        states=dict.fromkeys(queue, 0.0),
        output="y",
        levels=None,
    )


OPAQUE = ("VotingLayer", "TLastSeqToANNContainer", "TLastMultiStepContainer")
"""Layers that capture keeps as one node: those that are one layer of PyTorch, and those that it cannot look into."""
TRACES: Mapping[str, Callable[[Any], Neuron]] = MappingProxyType({"SynapseFilter": synapse_filter, "Delay": delay})
"""Stateful layers -> their canonical neuron."""
