"""Which neurons of SpikingJelly 2.0, besides IF, LIF and ParametricLIF, have equations, and why the rest has none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from torch import nn

from spikenm_compile.errors import CaptureError
from spikenm_compile.frontend.constants import check_channels
from spikenm_compile.frontend.spikingjelly_graded_forms import dsr_if, dsr_lif, ilif, non_spiking, stbif
from spikenm_compile.frontend.spikingjelly_spiking_forms import (
    activation_aware_if,
    complementary_lif,
    cuba_lif,
    eif,
    integrate,
    izhikevich,
    klif,
    liaf,
    lif,
    qif,
    raf,
    simple_lif,
    ternary_if,
    ternary_lif,
)
from spikenm_compile.neurons import Neuron

FORMS: Mapping[str, Callable[[Any], Neuron]] = MappingProxyType(
    {
        "ActivationAwareIFNode": activation_aware_if,
        "CUBALIFNode": cuba_lif,
        "ComplementaryLIFNode": complementary_lif,
        "DSRIFNode": dsr_if,
        "DSRLIFNode": dsr_lif,
        "EIFNode": eif,
        "HalfThresholdIFNode": integrate,
        "ILIFNode": ilif,
        "IzhikevichNode": izhikevich,
        "KLIFNode": klif,
        "LIAFNode": liaf,
        "NonSpikingIFNode": non_spiking,
        "NonSpikingLIFNode": non_spiking,
        "OTTTLIFNode": lif,
        "QIFNode": qif,
        "RAFNode": raf,
        "SLTTLIFNode": lif,
        "STBIFNode": stbif,
        "SimpleIFNode": integrate,
        "SimpleLIFNode": simple_lif,
        "TernaryIFNode": ternary_if,
        "TernaryLIFNode": ternary_lif,
    }
)
"""Name of a class of `spikingjelly.activation_based.neuron` -> canonical neuron of a module, learned values as they are
now. Raises CaptureError where an option of the module has no equations."""

_WHOLE_SEQUENCE = "it multiplies the whole sequence by a learned matrix of time steps, and so needs whole sequences"
_TABLE = "it codes each value anew by a table and hands nothing from step to step"
_FEEDBACK = "it feeds its spikes back through a convolution of its own"
_NOISE = "it adds coloured noise that a training run prepares for it"
_NORM = "it normalises its potential by a batch norm of its own"
REFUSED: Mapping[str, str] = MappingProxyType(
    {
        "PSN": _WHOLE_SEQUENCE,
        "MaskedPSN": _WHOLE_SEQUENCE,
        "SlidingPSN": "it weights the last k inputs instead of keeping a state, and so needs whole sequences",
        "GatedLIFNode": "its conductance gate is another one at each time step, so that it needs whole sequences",
        "FewSpikeNode": _TABLE,
        "OutlierAwareThresholdNode": _TABLE,
        "HGNode": _TABLE,
        "FlexSN": "its step is a Python function of your own",
        "ILCIFNode": _FEEDBACK,
        "ILCLIFNode": _FEEDBACK,
        "ILCCUBALIFNode": _FEEDBACK,
        "NoisyCUBALIFNode": _NOISE,
        "NoisyILCCUBALIFNode": _NOISE,
        "NoisyNonSpikingIFNode": _NOISE,
        "MPBNLIFNode": _NORM,
    }
)
"""Class name -> why it has no equations of one step: `SpikingJelly's PSN has no canonical neuron: <why>`."""


def check_input(module: nn.Module, shape: tuple[int, ...]) -> None:
    """Whether parameters of `module` that are one number per channel stand for dimension 1 of an input [B, C, ...].

    Raises:
        CaptureError: they stand for another dimension.
    """
    node: Any = module
    kind = type(node).__name__
    if kind != "ActivationAwareIFNode":
        for name in ("v_threshold", "v_reset", "tau"):
            check_channels(kind, name, getattr(node, name, None), shape)
        return
    sizes = [p.numel() for p in (node.v_threshold, node.v_offset) if p.dim() > 0]
    if sizes and (node.channel_dim % len(shape) != 1 or set(sizes) != {shape[1]}):
        raise CaptureError(
            f"an ActivationAwareIFNode has {max(sizes)} thresholds or offsets for dimension {node.channel_dim} of an "
            f"input {list(shape)}; one for each channel, which is dimension 1, is supported; give it channel_dim=1"
        )
