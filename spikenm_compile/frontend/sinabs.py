"""Adapter of sinabs 3.1: IAF, LIF, ALIF, ExpLeak and recurrent ones, on [B, T, ...] or, as Squeeze layers, [B·T, ...].

The equations are in `spikenm_compile.frontend.sinabs_forms`. MultiSpike, which puts no bound on the spikes of one step,
is read as MaxSpike(63): the two differ only where a neuron would emit more in one step. The library is looked up in
`sys.modules` and never imported: whoever has a sinabs model has imported it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from spikenm_compile.errors import CaptureError
from spikenm_compile.frontend.adapter import Adapter, ModuleTypes
from spikenm_compile.frontend.constants import check_channels, constant
from spikenm_compile.frontend.sinabs_forms import MOST_SPIKES, Fire, Form, equations, output, states
from spikenm_compile.frontend.sinabs_recording import recorded_resets
from spikenm_compile.frontend.values import Layout
from spikenm_compile.frontend.wiring import Source, Wire, Wiring, chain
from spikenm_compile.neurons import SPIKES, Levels, Neuron

_CLASSES = {
    "iaf": ("IAF", "IAFSqueeze", "IAFRecurrent"),
    "lif": ("LIF", "LIFSqueeze", "LIFRecurrent"),
    "alif": ("ALIF", "ALIFSqueeze", "ALIFRecurrent"),
    "exp_leak": ("ExpLeak", "ExpLeakSqueeze"),
}


_FEEDBACK = "rec"
"""Current that comes back."""


def _find(module: str, name: str) -> Any:
    """A name of a part of the library that is already imported, or None."""
    return getattr(sys.modules.get(f"sinabs.{module}"), name, None)


def _types() -> ModuleTypes:
    base = _find("layers.stateful_layer", "StatefulLayer")
    return () if base is None else (base,)


def _family(module: nn.Module) -> str | None:
    """`iaf`, `lif`, `alif` or `exp_leak`; a subclass may compute anything."""
    found = (f for f, names in _CLASSES.items() for n in names if type(module) is _find(f"layers.{f}", n))
    return next(found, None)


def _canonical(module: nn.Module) -> Neuron:
    node: Any = module
    family, kind = _family(module), type(module).__name__
    if family is None:
        raise CaptureError(_no_form(module))
    form = _form(node, kind, is_adaptive=family == "alif", leaks=family != "iaf")
    constants = {name: constant(kind, name, value) for name, value in _constants(node, form).items()}
    _check_threshold(kind, form, constants)
    return Neuron(
        equations=equations(form),
        states=dict.fromkeys(states(form), 0.0),
        constants=constants,
        output=output(form),
        levels=_levels(node, form),
        inputs=("x", _FEEDBACK) if form.is_recurrent else ("x",),
    )


def _wiring(module: nn.Module) -> Wiring | None:
    """What `rec_connect` makes of the spikes of a step is a current of the next; that of the first step is 0."""
    if not _is_recurrent(module):
        return None
    node: Any = module
    feedback = Wire(_FEEDBACK, Source.OUTPUT, chain("rec_connect", node.rec_connect))
    unmaskable = "sinabs takes every buffer inside a recurrent neuron for a state, those of a mask too"
    return Wiring((Wire("x", Source.INPUT), feedback), _FEEDBACK, unmaskable=unmaskable)


def _is_recurrent(module: nn.Module) -> bool:
    return hasattr(module, "rec_connect")


def _levels(node: Any, form: Form) -> Levels | None:
    if form.fire is Fire.MANY:
        return Levels(0, _most_spikes(node.spike_fn))
    return SPIKES if form.fire is Fire.ONE else None


def _no_form(module: nn.Module) -> str:
    names = ", ".join(name for family in _CLASSES.values() for name in family)
    kind = type(module).__name__
    return f"sinabs's {kind} has no canonical neuron; {names} have one, no subclasses of them; use one of these"


def _form(node: Any, kind: str, *, is_adaptive: bool, leaks: bool) -> Form:
    fire = _fire(node.spike_fn, kind)
    subtract = _find("activation.reset_mechanism", "MembraneSubtract")
    known = (subtract, _find("activation.reset_mechanism", "MembraneReset"))
    if fire is not Fire.NOTHING and type(node.reset_fn) not in known:
        raise CaptureError(
            f"the reset_fn of a {kind} is {_name(node.reset_fn)}; MembraneSubtract and MembraneReset are supported; "
            "use one of these"
        )
    subtracts = type(node.reset_fn) is subtract
    return Form(
        leaks=leaks,
        has_synapse=node.alpha_syn_calculated is not None,
        norm_input=bool(node.norm_input),
        fire=fire,
        subtracts=subtracts,
        subtracts_threshold=subtracts and node.reset_fn.subtract_value is None,
        has_floor=node.min_v_mem is not None,
        is_adaptive=is_adaptive,
        is_recurrent=_is_recurrent(node),
    )


def _fire(spike_fn: Any, kind: str) -> Fire:
    if spike_fn is None:
        return Fire.NOTHING
    if spike_fn is _find("activation.spike_generation", "SingleSpike"):
        return Fire.ONE
    if spike_fn is _find("activation.spike_generation", "MultiSpike"):
        return Fire.MANY
    if type(spike_fn) is _find("activation.spike_generation", "MaxSpike"):
        return Fire.MANY
    raise CaptureError(
        f"the spike_fn of a {kind} is {_name(spike_fn)}; SingleSpike, MultiSpike and MaxSpike are supported; use one "
        "of these"
    )


def _most_spikes(spike_fn: Any) -> int:
    bound: int | None = getattr(spike_fn, "max_num_spikes_per_bin", None)
    return MOST_SPIKES if bound is None else min(bound, MOST_SPIKES)


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", function))


def _constants(node: Any, form: Form) -> Mapping[str, Any]:
    """Values of the names in the equations, in the arithmetic of sinabs."""
    values: dict[str, Any] = {}
    with torch.no_grad():
        if form.leaks:
            values["alpha_mem"] = node.alpha_mem_calculated
        if form.norm_input:
            values["gain"] = 1 - node.alpha_mem_calculated
        if form.has_synapse:
            values["alpha_syn"] = node.alpha_syn_calculated
        if form.is_adaptive:
            values |= {"b0": node.b0, "scale": node.adapt_scale, "alpha_adapt": node.alpha_adapt_calculated}
            values["rise"] = 1 - node.alpha_adapt_calculated
        elif form.fire is not Fire.NOTHING:
            values["v_th"] = node.spike_threshold
        if form.fire is Fire.MANY:
            values["most"] = _most_spikes(node.spike_fn)
        if form.fire is not Fire.NOTHING and not form.subtracts_threshold:
            reset = node.reset_fn
            name, value = ("v_subtract", reset.subtract_value) if form.subtracts else ("v_reset", reset.reset_value)
            values[name] = value
        if form.has_floor:
            values["v_min"] = node.min_v_mem
    return values


def _check_threshold(kind: str, form: Form, constants: Mapping[str, float | tuple[float, ...]]) -> None:
    """Several spikes a step are counted in thresholds, which must then be positive."""
    if form.fire is not Fire.MANY:
        return
    lowest, scale = _lowest(constants["b0" if form.is_adaptive else "v_th"]), _lowest(constants.get("scale", 0.0))
    if lowest <= 0.0 or scale < 0.0:
        raise CaptureError(
            f"a {kind} counts its spikes in thresholds and has a threshold of {lowest:.9g} that adapts by {scale:.9g}; "
            "thresholds above zero that do not fall are supported; change them, or use SingleSpike"
        )


def _lowest(value: float | tuple[float, ...]) -> float:
    return min(value) if isinstance(value, tuple) else value


def _is_multi_step(module: nn.Module) -> bool:
    return isinstance(module, _types())


def _layout(module: nn.Module) -> Layout:
    node: Any = module
    squeeze = _find("layers.reshape", "SqueezeMixin")
    if squeeze is None or not isinstance(module, squeeze):
        return Layout(dim=1)
    sizes = [None if size == -1 else int(size) for size in (node.batch_size, node.num_timesteps)]
    return Layout(dim=1, is_flat=True, batch=sizes[0], length=sizes[1])


def _layer(module: nn.Module) -> nn.Module | None:
    node: Any = module
    if type(module) is not _find("layers.pool2d", "SumPool2d") or node.ceil_mode:
        return None
    # the library divides by the window's size and multiplies by it again: of whole numbers, the same up to rounding
    return nn.AvgPool2d(node.kernel_size, node.stride, divisor_override=1).eval()


def _reset(module: nn.Module) -> None:
    node: Any = module
    node.reset_states()


def _check_input(module: nn.Module, shape: tuple[int, ...]) -> None:
    node: Any = module
    family, kind = _family(module), type(module).__name__
    form = _form(node, kind, is_adaptive=family == "alif", leaks=family != "iaf")
    for name, value in _constants(node, form).items():
        check_channels(kind, name, value, shape)


SINABS = Adapter(
    "sinabs",
    _types,
    _types,
    _canonical,
    _is_multi_step,
    _layer,
    _reset,
    recording=recorded_resets,
    check_input=_check_input,
    layout=_layout,
    wiring=_wiring,
)
