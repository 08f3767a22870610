"""Neuron classes that users have registered: their own module is the leaf, their own equations are what it computes.

Given a class MyLIF whose forward(x, mem) returns spikes and mem:

    def spec(lif: MyLIF) -> Neuron:
        return Neuron(("h = beta * v + x", "s = h > 1", "v = h - s"), {"v": 0.0}, {"beta": float(lif.beta)})

    register_neuron(MyLIF, spec, returns=("s", "v"), states=("v",))
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch._subclasses.fake_tensor import unset_fake_temporarily

from spikenm_compile.errors import CaptureError, InputError
from spikenm_compile.frontend.adapter import Adapter, ModuleTypes
from spikenm_compile.frontend.recording import Record, call_reset
from spikenm_compile.neurons import Neuron

Spec = Callable[[Any], Neuron]
Reset = Callable[[Any], object]


@dataclass(frozen=True)
class Registration:
    """How instances of one class are read; the fields are the arguments of `register_neuron`."""

    cls: type[nn.Module]
    spec: Spec
    multi_step: bool | Callable[[Any], bool]
    reset: Reset | None
    returns: tuple[str, ...] | None
    states: tuple[str, ...]


_REGISTERED: dict[type[nn.Module], Registration] = {}


def register_neuron(
    cls: type[nn.Module],
    spec: Spec,
    *,
    multi_step: bool | Callable[[Any], bool] = False,
    reset: Reset | None = None,
    returns: Sequence[str] | None = None,
    states: Sequence[str] = (),
) -> type[nn.Module]:
    """Make a class of neurons known: one node of a captured graph, whose forward is never looked into.

    Args:
        cls: the class; subclasses that keep its forward are known with it.
        spec: module -> the canonical neuron that it computes, with the constants that this module has now.
        multi_step: whether a call takes all steps at once, [T, B, ...], or module -> whether it does.
        reset: makes a module forget its state; by default its method `reset`, if it has one. If it is a method of the
            class, a call of it inside of a model's forward is recorded as a reset.
        returns: what forward returns: names of the neuron's output and states, in order; one name: no tuple. By
            default the output alone. A state returned by a multi-step neuron is that of the last step.
        states: names of the states that a call may give by hand behind its inputs, in order; None starts anew.

    Returns:
        The class.

    Raises:
        InputError: not a module class, or registered before.
    """
    if not (inspect.isclass(cls) and issubclass(cls, nn.Module)):
        raise InputError(f"register_neuron got {cls!r}; a subclass of torch.nn.Module is registered; give the class")
    if cls in _REGISTERED:
        raise InputError(
            f"{cls.__name__} is registered already; a class of neurons has one meaning; register it once, where it is "
            "defined"
        )
    if isinstance(returns, str) or isinstance(states, str):
        raise InputError(
            f"register_neuron({cls.__name__}) got a string as returns or states; tuples of names are supported; write "
            "('v',) for one name"
        )
    _REGISTERED[cls] = Registration(
        cls, spec, multi_step, reset, None if returns is None else tuple(returns), tuple(states)
    )
    return cls


def _types() -> ModuleTypes:
    return tuple(_REGISTERED)


def _of(module: nn.Module) -> Registration:
    """The registration of the nearest base class.

    Raises:
        CaptureError: the module has another forward than the class that was registered.
    """
    found = next(_REGISTERED[cls] for cls in type(module).__mro__ if cls in _REGISTERED)
    if type(module).forward is not found.cls.forward:
        raise CaptureError(
            f"{type(module).__name__} overrides forward of {found.cls.__name__}, which is the registered neuron; a "
            "registration holds for one forward; call register_neuron for the subclass too"
        )
    return found


def _canonical(module: nn.Module) -> Neuron:
    registration = _of(module)
    with unset_fake_temporarily():  # capture asks while it evaluates shapes; constants are numbers even then
        neuron = registration.spec(module)
    if not isinstance(neuron, Neuron):
        raise CaptureError(
            f"the spec of {type(module).__name__} returned a {type(neuron).__name__}; a "
            "spikenm_compile.neurons.Neuron is needed; return one with this module's constants"
        )
    known = (*neuron.states, neuron.output)
    unknown = [n for n in (registration.returns or ()) if n not in known]
    unknown += [n for n in registration.states if n not in neuron.states]
    if unknown:
        raise CaptureError(
            f"{type(module).__name__} is registered with '{unknown[0]}' in returns or states; its neuron has the "
            f"output '{neuron.output}' and the states {', '.join(neuron.states)}; use these names"
        )
    return neuron


def _is_multi_step(module: nn.Module) -> bool:
    if not isinstance(module, _types()):
        return False
    multi_step = _of(module).multi_step
    return multi_step if isinstance(multi_step, bool) else bool(multi_step(module))


def _layer(module: nn.Module) -> nn.Module | None:
    return None


def _reset(module: nn.Module) -> None:
    reset = _of(module).reset or getattr(type(module), "reset", None)
    if reset is not None:
        reset(module)


def _returned(module: nn.Module, output: Any, state: Callable[[str], Any]) -> Any:
    registration, neuron = _of(module), _canonical(module)
    if registration.returns is None:
        return output
    values = tuple(output if name == neuron.output else state(name) for name in registration.returns)
    return values[0] if len(values) == 1 else values


def _given_states(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    registration, neuron = _of(module), _canonical(module)
    behind_inputs = list(inspect.signature(registration.cls.forward).parameters)[1 + len(neuron.inputs) :]
    state_of = dict(zip(behind_inputs, registration.states, strict=False))
    arguments = {**dict(zip(behind_inputs, args, strict=False)), **kwargs}
    if not arguments.keys() <= state_of.keys():
        names = ", ".join(registration.states) or "no states"
        raise CaptureError(
            f"a {type(module).__name__} is called with {len(arguments)} arguments behind its inputs, and is registered "
            f"with {names} there; states are supported, in the order of forward; name them in "
            "register_neuron(states=...)"
        )
    given = {state_of[name]: value for name, value in arguments.items()}
    return {name: neuron.states[name] if value is None else value for name, value in given.items()}


def _num_inputs(module: nn.Module) -> int:
    return len(_canonical(module).inputs)


@contextmanager
def _recorded_resets(model: nn.Module, is_recording: Callable[[], bool], record: Record) -> Iterator[None]:
    """Inside, a registered reset that is a method with another name than `reset` is recorded."""
    shadowed = [(m, name) for m in model.modules() if isinstance(m, _types()) for name in _reset_method(m)]
    for module, name in shadowed:
        module.__dict__[name] = _recorder(module, name, is_recording, record)
    try:
        yield
    finally:
        for module, name in shadowed:
            module.__dict__.pop(name, None)


def _reset_method(module: nn.Module) -> list[str]:
    """Name of the method that was registered as the reset; `reset` itself is recorded for every library."""
    name = getattr(_of(module).reset, "__name__", "reset")
    return [name] if name != "reset" and getattr(_of(module).cls, name, None) is _of(module).reset else []


def _recorder(module: nn.Module, name: str, is_recording: Callable[[], bool], record: Record) -> Reset:
    original: Callable[..., object] = getattr(module, name)

    def recorded(*args: Any, **kwargs: Any) -> object:
        return record(call_reset, (module, name)) if is_recording() else original(*args, **kwargs)

    return recorded


REGISTERED = Adapter(
    "registered",
    _types,
    _types,
    _canonical,
    _is_multi_step,
    _layer,
    _reset,
    recording=_recorded_resets,
    returned=_returned,
    given_states=_given_states,
    num_inputs=_num_inputs,
)
