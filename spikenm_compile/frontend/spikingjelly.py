"""SpikingJelly 2.0, `activation_based`: IFNode, LIFNode and ParametricLIFNode, and the layers of its `layer` module.

Equations are those of `spikingjelly.activation_based.functional.{if,lif,plif}_step`. The library is looked up in
`sys.modules` and never imported: whoever has a SpikingJelly model has imported it.
"""

from __future__ import annotations

import sys
from typing import Any

from torch import nn

from spikenm_compile.errors import CaptureError
from spikenm_compile.frontend.adapter import Adapter, ModuleTypes
from spikenm_compile.frontend.layers import plain_view
from spikenm_compile.neurons import Charge, Neuron

_PACKAGE = "spikingjelly.activation_based"
_STEPWISE_LAYERS = (
    *(f"{kind}{n}d" for kind in ("Conv", "BatchNorm", "MaxPool", "AvgPool", "AdaptiveAvgPool") for n in (1, 2, 3)),
    "Linear",
    "Flatten",
    "GroupNorm",
    "Upsample",
)


def _class(module: str, name: str) -> Any:
    """Class of a part of the library that is already imported, or None."""
    return getattr(sys.modules.get(f"{_PACKAGE}.{module}"), name, None)


def _stateful_types() -> ModuleTypes:
    base = _class("base", "MemoryModule")
    return () if base is None else (base,)


def _neuron_types() -> ModuleTypes:
    found = (_class("neuron", name) for name in ("BaseNode", "SimpleBaseNode", "NonSpikingBaseNode"))
    return tuple(cls for cls in found if cls is not None)


def _canonical(module: nn.Module) -> Neuron:
    node: Any = module
    cls = type(module)
    if cls not in (_class("neuron", name) for name in ("IFNode", "LIFNode", "ParametricLIFNode")):
        raise CaptureError(
            f"SpikingJelly's {cls.__name__} has no canonical neuron; IFNode, LIFNode and ParametricLIFNode have one; "
            "use one of these"
        )
    _check_options(node)
    if cls is _class("neuron", "IFNode"):
        return Neuron(Charge.INTEGRATE, v_threshold=node.v_threshold, v_reset=node.v_reset)
    if cls is _class("neuron", "LIFNode"):
        form = Charge.DECAY_INPUT_DIV if node.decay_input else Charge.DECAY_DIV
        return Neuron(form, float(node.tau), node.v_threshold, node.v_reset)
    form = Charge.DECAY_INPUT_MUL if node.decay_input else Charge.DECAY_MUL
    return Neuron(form, float(node.w.detach().sigmoid()), node.v_threshold, node.v_reset)


def _check_options(node: Any) -> None:
    if not getattr(node.surrogate_function, "spiking", True):
        raise CaptureError(
            f"a {type(node).__name__} has a surrogate function with spiking=False and so emits no spikes; "
            "a canonical neuron spikes; build the surrogate function with spiking=True"
        )
    if node._neuron_precision is not None:
        raise CaptureError(
            f"a {type(node).__name__} computes in a precision of its own; a canonical neuron computes in float32; "
            "leave the neuron precision unset"
        )


def _is_multi_step(module: nn.Module) -> bool:
    return getattr(module, "step_mode", None) == "m"


def _layer(module: nn.Module) -> nn.Module | None:
    if isinstance(module, tuple(c for c in (_class("layer", "Dropout"),) if c is not None)):
        return nn.Identity()  # its mask is all ones in eval mode
    name = type(module).__name__
    if name not in _STEPWISE_LAYERS or type(module) is not _class("layer", name):
        return None
    return plain_view(module, getattr(nn, name))


def _reset(module: nn.Module) -> None:
    node: Any = module
    node.reset()


SPIKINGJELLY = Adapter("spikingjelly", _stateful_types, _neuron_types, _canonical, _is_multi_step, _layer, _reset)
