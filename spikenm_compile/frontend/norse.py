"""Adapter of norse 1.1: LIF, LIFBox, IAF, LI, LIBox, LIFRefrac, LIFEx, LIFAdEx and LSNN, some also recurrent.

The equations are in `spikenm_compile.frontend.norse_forms`. Cells take and return their state by hand. The library is
looked up in `sys.modules` and never imported: whoever has a norse model has imported it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from spikenm_compile.errors import CaptureError
from spikenm_compile.frontend.adapter import Adapter, ModuleTypes
from spikenm_compile.frontend.constants import check_channels, constant, initial
from spikenm_compile.frontend.norse_forms import FORMS, LIF_BOX, LIF_BOX_SOFT, POTENTIAL, Form
from spikenm_compile.frontend.wiring import Source, Wire, Wiring
from spikenm_compile.neurons import SPIKES, Neuron

_PACKAGE = "norse.torch"
_RECURRENT = ("SNNRecurrentCell", "SNNRecurrent")
_SPIKES = "z"
"""Norse's name for the previous spikes, which are the first field of the state of a recurrent neuron."""
_STATEFUL = (
    *(("module.snn", name) for name in ("SNNCell", "SNN", "SNNRecurrentCell", "SNNRecurrent")),
    ("module.leaky_integrator", "LILinearCell"),
    ("module.coba_lif", "CobaLIFCell"),
    ("module.lif_correlation", "LIFCorrelation"),
)


def _find(module: str, name: str) -> Any:
    """A name of a part of the library that is already imported, or None."""
    return getattr(sys.modules.get(f"{_PACKAGE}.{module}"), name, None)


def _types() -> ModuleTypes:
    return tuple(cls for place in _STATEFUL if (cls := _find(*place)) is not None)


def _any(module: nn.Module) -> Any:
    return module


def _is(module: nn.Module, *names: str) -> bool:
    return isinstance(module, tuple(cls for name in names if (cls := _find("module.snn", name)) is not None))


def _form(module: nn.Module) -> Form | None:
    """Equations of the module's step function; None: it has none, or starts from states of its own."""
    node: Any = module
    is_plain = _is(module, "SNNCell", "SNN", *_RECURRENT) and type(module).__module__.startswith(f"{_PACKAGE}.module.")
    if not is_plain or node.state_fallback != getattr(module, "initial_state", None):
        return None
    form = next((form for place, form in FORMS.items() if node.activation is _find(*place)), None)
    if form is LIF_BOX and node.p.reset_method is not _find("functional.reset", "reset_value"):
        return LIF_BOX_SOFT if node.p.reset_method is _find("functional.reset", "reset_subtract") else None
    return form


def _canonical(module: nn.Module) -> Neuron:
    node: Any = module
    form, kind = _form(module), type(module).__name__
    if form is None:
        raise CaptureError(_no_form(module))
    if getattr(node, "record_states", False):
        raise CaptureError(
            f"a {kind} of norse has record_states=True and so returns its states of all steps; the state after the "
            "last one is supported; build it with record_states=False"
        )
    values = form.constants(node.p, node.dt)
    return Neuron(
        equations=form.equations,
        states={name: 0.0 if at is None else initial(kind, at, values[at]) for name, at in form.states.items()},
        constants={name: constant(kind, name, value) for name, value in values.items()},
        output=form.output,
        levels=None if form.output == POTENTIAL else SPIKES,
        inputs=form.inputs,
    )


def _wiring(module: nn.Module) -> Wiring | None:
    """The weights of a recurrent neuron, of its input and of its previous spikes, are parameters of the module."""
    if not _is(module, *_RECURRENT):
        return None
    node: Any = module
    x = Wire("x", Source.INPUT, (("input_weights", _linear(node.input_weights)),))
    feedback = Wire("rec", Source.PREVIOUS, (("recurrent_weights", _linear(node.recurrent_weights)),))
    return Wiring((x, feedback), state=_SPIKES, unmaskable="its weights are parameters of the neuron")


def _linear(weight: Tensor) -> nn.Linear:
    """A layer of that weight [O, I], shared where it is a parameter."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    layer.weight = weight if isinstance(weight, nn.Parameter) else nn.Parameter(weight.detach(), requires_grad=False)
    return layer


def _no_form(module: nn.Module) -> str:
    kind = type(module).__name__
    if _is(module, *_RECURRENT):
        return (
            f"norse's {kind} has no canonical neuron; recurrent LIF, LIFRefrac, LIFEx, LIFAdEx and LSNN have one, no "
            "subclasses of them, and not with method='adjoint'; use one of these"
        )
    if isinstance(module, tuple(cls for cls in (_find("module.leaky_integrator", "LILinearCell"),) if cls is not None)):
        return (
            f"norse's {kind} holds the weights of its input; a step graph keeps layers and neurons apart; use "
            "torch.nn.Linear(input_size, hidden_size, bias=False) followed by LICell"
        )
    return (
        f"norse's {kind} has no canonical neuron; the cells LIF, LIFBox (reset_value, reset_subtract), IAF, LI, LIBox, "
        "LIFRefrac, LIFEx, LIFAdEx and LSNN have one, no subclasses of them; use one of these"
    )


def _is_multi_step(module: nn.Module) -> bool:
    return _is(module, "SNN", _RECURRENT[1])


def _layer(module: nn.Module) -> nn.Module | None:
    return None


def _reset(module: nn.Module) -> None:
    """Nothing to forget: the state goes in and out of each call."""


def _returned(module: nn.Module, output: Any, state: Callable[[str], Any]) -> Any:
    form, node = _form(module), _any(module)
    if form is None or getattr(module, "record_states", False):
        return None
    if _is(module, *_RECURRENT) and isinstance(output, Tensor):  # capture asks for the shapes, given the input
        spikes = output.new_empty((*output.shape[:-1], node.recurrent_weights.shape[0]))
        return spikes, _state_tuple(form, [spikes] * len(_fields(form)))
    return output, _state_tuple(form, [state(name) for name in _fields(form)])


def _fields(form: Form) -> tuple[str, ...]:
    """What is in the state that norse hands from step to step, in its order."""
    return (*([_SPIKES] if len(form.inputs) > 1 else []), *form.states)


def _state_tuple(form: Form, values: list[Any]) -> Any:
    """The states as norse returns them."""
    library: Any = sys.modules[_PACKAGE]
    cls = getattr(library, form.state_type)
    inside = {"LIFRefracFeedForwardState": "LIFFeedForwardState", "LIFRefracState": "LIFState"}.get(form.state_type)
    return cls(*values) if inside is None else cls(getattr(library, inside)(*values[:-1]), values[-1])


def _given_states(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    form = _form(module)
    if form is None:
        raise CaptureError(_no_form(module))
    given = [*args, *kwargs.values()]
    if not given or given[0] is None:  # norse then starts anew, whatever was before
        return {**dict.fromkeys(_fields(form), 0.0), **_canonical(module).states}
    return dict(zip(_fields(form), _flat(given[0]), strict=True))


def _flat(state: Any) -> list[Any]:
    """Fields of a state tuple, those of a tuple inside it in its place."""
    return [leaf for field in state for leaf in (field if isinstance(field, tuple) else (field,))]


def _check_input(module: nn.Module, shape: tuple[int, ...]) -> None:
    node: Any = module
    form = _form(module)
    if form is None:
        raise CaptureError(_no_form(module))
    for name, value in form.constants(node.p, node.dt).items():
        check_channels(type(module).__name__, name, value, shape)


NORSE = Adapter(
    "norse",
    _types,
    _types,
    _canonical,
    _is_multi_step,
    _layer,
    _reset,
    returned=_returned,
    given_states=_given_states,
    check_input=_check_input,
    wiring=_wiring,
)
