"""Neurons of snnTorch 1.0: Leaky, Synaptic, Alpha, Lapicque, RLeaky and RSynaptic.

The equations are in `spikenm_compile.frontend.snntorch_forms`. The library is looked up in `sys.modules` and never
imported: whoever has an snnTorch model has imported it.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from spikenm_compile.errors import CaptureError
from spikenm_compile.frontend.adapter import Adapter, ModuleTypes
from spikenm_compile.frontend.constants import check_channels, constant
from spikenm_compile.frontend.snntorch_forms import (
    FEEDBACK,
    FORMS,
    GAIN,
    PREVIOUS_SPIKES,
    THRESHOLD,
    Form,
    equations,
)
from spikenm_compile.frontend.snntorch_recording import recorded_class_resets
from spikenm_compile.frontend.wiring import Source, Wire, Wiring, chain
from spikenm_compile.neurons import SPIKES, Neuron

_SEQUENCE_TYPES = ("LeakyParallel",)
"""Whole-sequence modules that are no SpikingNeuron of the library."""

_MECHANISMS = {"_base_sub": "subtract", "_base_zero": "zero", "_base_int": "none"}
"""Method that computes a step -> reset mechanism, in the order of the library's numbers for them."""


def _class(name: str) -> Any:
    """Class of the library if it is already imported, or None."""
    return getattr(sys.modules.get("snntorch"), name, None)


def _types() -> ModuleTypes:
    return tuple(cls for name in ("SpikingNeuron", *_SEQUENCE_TYPES) if (cls := _class(name)) is not None)


def _form(module: nn.Module) -> Form | None:
    """Equations of the module's class; a subclass may compute anything."""
    name = type(module).__name__
    return FORMS.get(name) if type(module) is _class(name) else None


def _canonical(module: nn.Module) -> Neuron:
    form, node, kind = _form(module), _any(module), type(module).__name__
    if form is None:
        raise CaptureError(
            f"snnTorch's {kind} has no canonical neuron; {', '.join(FORMS)} themselves, no subclasses of them, have "
            "one; use one of these"
        )
    _check_options(node, kind)
    graded = bool((node.graded_spikes_factor != 1).any())
    values = {THRESHOLD: node.threshold, GAIN: node.graded_spikes_factor, **form.constants(node)}
    loop = _wiring(module)
    steps = equations(
        form,
        _mechanism(node, kind),
        reset_delay=_has_reset_delay(node),
        graded=graded,
        one_to_one=PREVIOUS_SPIKES in form.states and loop is None,
    )
    used = {name: constant(kind, name, value) for name, value in values.items() if _is_used(name, steps)}
    return Neuron(
        equations=steps,
        states={state: 0.0 for state in form.states if loop is None or state != PREVIOUS_SPIKES},
        constants=used,
        output="out" if graded else "s",
        levels=None if graded else SPIKES,
        inputs=("x",) if loop is None else tuple(wire.current for wire in loop.wires),
    )


def _wiring(module: nn.Module) -> Wiring | None:
    """RLeaky and RSynaptic with all_to_all=True feed their spikes back through a layer, named `recurrent`."""
    recurrent = getattr(module, "recurrent", None)
    if recurrent is None or hasattr(recurrent, "V"):
        return None
    feedback = Wire(FEEDBACK, Source.PREVIOUS, chain("recurrent", recurrent))
    return Wiring((Wire("x", Source.INPUT), feedback), state=PREVIOUS_SPIKES)


def _any(module: nn.Module) -> Any:
    return module


def _has_reset_delay(node: Any) -> bool:
    """Lapicque and Alpha know no other reset than the late one."""
    return bool(getattr(node, "reset_delay", True))


def _mechanism(node: Any, kind: str) -> str:
    """Reset mechanism that the module computes: chosen when it was built, whatever state_dict was loaded later."""
    method = getattr(node.state_function, "__name__", "")
    is_one = method in _MECHANISMS and int(node.reset_mechanism_val) == [*_MECHANISMS].index(method)
    if method not in _MECHANISMS or not (is_one or _has_reset_delay(node)):
        raise CaptureError(
            f"a {kind} was built with one reset_mechanism and got another later, so that it resets in two ways; one "
            "mechanism is supported; build it with the one that its state_dict holds"
        )
    return _MECHANISMS[method]


def _is_used(name: str, steps: tuple[str, ...]) -> bool:
    return any(name in step.replace("(", " ").replace(")", " ").split() for step in steps)


def _check_options(node: Any, kind: str) -> None:
    """Refuse what the equations do not hold."""
    if node.inhibition:
        raise CaptureError(
            f"a {kind} has inhibition=True, by which only the strongest neuron of a layer spikes; a canonical neuron "
            "spikes by its own potential; build it with inhibition=False"
        )
    if node.state_quant:
        raise CaptureError(
            f"a {kind} quantises its state (state_quant); a canonical neuron keeps its state in float32; build it with "
            "state_quant=False"
        )
    distance = torch.tensor([-1.0, -1e-30, 0.0, 1e-30, 1.0], device=node.threshold.device)
    with torch.no_grad():
        spikes: Tensor = node.spike_grad(distance)
    if not torch.equal(spikes, (distance > 0).to(distance)):
        raise CaptureError(
            f"the spike_grad of a {kind} gives other values than 0 up to the threshold and 1 above it; a canonical "
            "neuron emits such spikes; use a function of snntorch.surrogate"
        )
    if kind == "RSynaptic" and not node.reset_delay:
        raise CaptureError(
            "an RSynaptic has reset_delay=False, which snnTorch 1.0 itself cannot compute; reset_delay=True is "
            "supported; build it so"
        )


def _check_input(module: nn.Module, shape: tuple[int, ...]) -> None:
    form, node = _form(module), _any(module)
    assert form is not None
    constants = {THRESHOLD: node.threshold, GAIN: node.graded_spikes_factor, **form.constants(node)}
    for name, value in constants.items():
        check_channels(type(module).__name__, name, value, shape)


def _is_multi_step(module: nn.Module) -> bool:
    return False


def _layer(module: nn.Module) -> nn.Module | None:
    return None


def _reset(module: nn.Module) -> None:
    reset = getattr(module, "reset_mem", None)  # modules that take whole sequences keep no state
    if reset is not None:
        reset()


def _returned(module: nn.Module, output: Any, state: Callable[[str], Any]) -> Any:
    form, node = _form(module), _any(module)
    if form is None:
        return None
    if node.init_hidden and not node.output:
        return output
    return (output, *(state(name) for name in form.states if name != PREVIOUS_SPIKES))


def _given_states(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    form, kind = _form(module), type(module).__name__
    assert form is not None
    try:
        named = inspect.signature(type(module).forward).bind(module, None, *args, **kwargs).arguments
    except TypeError as error:
        raise CaptureError(
            f"a {kind} is called with arguments that it does not take ({error}); its input and its states "
            f"({', '.join(form.states)}) are supported; call it with these"
        ) from error
    given = {state: named[state] for state in form.states if named.get(state) is not None}
    if given and _any(module).init_hidden:
        raise CaptureError(
            f"a {kind} with init_hidden=True is called with its state '{next(iter(given))}'; it keeps its own; "
            "call it with the input only, or build it with init_hidden=False"
        )
    return given


SNNTORCH = Adapter(
    "snntorch",
    _types,
    _types,
    _canonical,
    _is_multi_step,
    _layer,
    _reset,
    recording=recorded_class_resets,
    returned=_returned,
    given_states=_given_states,
    check_input=_check_input,
    wiring=_wiring,
)
