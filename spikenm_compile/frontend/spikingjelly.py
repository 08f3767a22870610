"""SpikingJelly 2.0, `activation_based`: its neurons that have a step recurrence, and the layers of its `layer` module.

IFNode, LIFNode and ParametricLIFNode are those of `functional.{if,lif,plif}_step`; `spikingjelly_forms` has the others.
Containers that feed a neuron's output back to it count as neurons: `spikingjelly_containers`. The library is looked up
in `sys.modules` and never imported: whoever has a SpikingJelly model has imported it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from spikenm_compile.errors import CaptureError
from spikenm_compile.frontend.adapter import Adapter, ModuleTypes
from spikenm_compile.frontend.layers import plain_view
from spikenm_compile.frontend.spikingjelly_containers import CONTAINERS, LINEAR, inner_neuron, wiring_of, with_function
from spikenm_compile.frontend.spikingjelly_forms import FORMS, REFUSED, check_input
from spikenm_compile.frontend.spikingjelly_graded_forms import DECODERS
from spikenm_compile.frontend.values import Step
from spikenm_compile.frontend.wiring import Wiring
from spikenm_compile.neurons import Neuron, integrate_and_fire, leaky, parametric_leaky

_PACKAGE = "spikingjelly.activation_based"
_OWN = ("IFNode", "LIFNode", "ParametricLIFNode")
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
    bases = ("BaseNode", "SimpleBaseNode", "NonSpikingBaseNode")
    found = [_class("neuron", name) for name in (*bases, *FORMS, *REFUSED)]
    found += [_class("layer", name) for name in CONTAINERS]
    return tuple(cls for cls in found if cls is not None)


def _is_container(module: nn.Module, *names: str) -> bool:
    return any(type(module) is _class("layer", name) for name in names or CONTAINERS)


def _canonical(module: nn.Module) -> Neuron:
    node: Any = module
    cls = type(module)
    name = cls.__name__
    if _is_container(module):
        neuron = _canonical(_inner(module))
        return neuron if _is_container(module, LINEAR) else with_function(neuron, node)
    if name in FORMS and cls is _class("neuron", name):
        return FORMS[name](node)
    if cls not in (_class("neuron", own) for own in _OWN):
        why = f": {REFUSED[name]}" if name in REFUSED else ""
        raise CaptureError(
            f"SpikingJelly's {name} has no canonical neuron{why}; {', '.join((*_OWN, *FORMS))} themselves, no "
            "subclasses of them, have one; use one of these"
        )
    _check_options(node)
    threshold_and_reset = {"v_threshold": node.v_threshold, "v_reset": node.v_reset}
    if cls is _class("neuron", "IFNode"):
        return integrate_and_fire(**threshold_and_reset)
    if cls is _class("neuron", "LIFNode"):
        return leaky(float(node.tau), decay_input=node.decay_input, **threshold_and_reset)
    decay = float(node.w.detach().sigmoid())
    return parametric_leaky(decay, decay_input=node.decay_input, **threshold_and_reset)


def _inner(module: nn.Module) -> nn.Module:
    """The neuron in a container.

    Raises:
        CaptureError: there is none, or one that takes all steps at once.
    """
    inner = inner_neuron(module)
    if isinstance(inner, _neuron_types()) and not _is_container(inner) and not _is_multi_step(inner):
        return inner
    kind, found = type(module).__name__, type(inner).__name__
    raise CaptureError(
        f"a {kind} holds a {found}; a single-step neuron of SpikingJelly, in a {LINEAR} also as the last module of a "
        "Sequential, is supported; put one there"
    )


def _wiring(module: nn.Module) -> Wiring | None:
    return wiring_of(module) if _is_container(module) else None


def _check_input(module: nn.Module, shape: tuple[int, ...]) -> None:
    check_input(_inner(module) if _is_container(module) else module, shape)


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
    non_spiking = _class("neuron", "NonSpikingBaseNode")
    return getattr(module, "step_mode", None) == "m" or (non_spiking is not None and isinstance(module, non_spiking))


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


def _returned(module: nn.Module, output: Any, state: Callable[[str], Any]) -> Any:
    """Non-spiking neurons return a list of all steps, or one value that they decode from it."""
    node: Any = module
    if isinstance(output, Tensor) and _is_container(module, LINEAR):  # capture asks for the shape, given the input
        return output.new_empty((*output.shape[:-1], node.sub_module_out_features))
    if type(module).__name__ not in ("NonSpikingIFNode", "NonSpikingLIFNode"):
        return output
    if isinstance(output, Tensor):
        return None  # only running the neuron can tell
    if node.decode in DECODERS:
        return Step(output.node, output.length - 1)
    return [Step(output.node, t) for t in range(output.length)]


SPIKINGJELLY = Adapter(
    "spikingjelly",
    _stateful_types,
    _neuron_types,
    _canonical,
    _is_multi_step,
    _layer,
    _reset,
    returned=_returned,
    check_input=_check_input,
    wiring=_wiring,
)
