"""Record how snnTorch sets states during forward: `mem = lif.init_leaky()`, and `utils.reset(net)` on whole classes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from spikenm_compile.frontend.recording import Record, call_detach, call_initial

_CLASSES = ("Leaky", "Synaptic", "Alpha", "Lapicque", "RLeaky", "RSynaptic", "SLSTM", "SConv2dLSTM")
_INITIAL = "reset_mem"
"""Method that sets the state of one neuron to zeros and returns it; `init_leaky` and its like are old names of it."""


@contextmanager
def recorded_class_resets(model: nn.Module, is_recording: Callable[[], bool], record: Record) -> Iterator[None]:
    """Inside, what would set states of snnTorch neurons becomes a node of the graph.

    The library's class methods act on every neuron of a class in the whole process: recorded is what they do to those
    of `model`.
    """
    library = sys.modules.get("snntorch")
    classes = [cls for name in _CLASSES if (cls := getattr(library, name, None)) is not None]
    shadowed = [(m, method) for m in model.modules() if isinstance(m, tuple(classes)) for method in _methods(m)]
    saved = [(cls, name, cls.__dict__[name]) for cls in classes for name in ("reset_hidden", "detach_hidden")]
    try:
        for module, method in shadowed:
            module.__dict__[method] = _recorder(module, method, is_recording, record)
        for cls, name, original in saved:
            setattr(cls, name, _class_recorder(model, cls, name, original, is_recording, record))
        yield
    finally:
        for module, method in shadowed:
            module.__dict__.pop(method, None)
        for cls, name, original in saved:
            setattr(cls, name, original)


def _methods(module: nn.Module) -> list[str]:
    """Names of the methods that return a fresh state."""
    return [n for n in dir(type(module)) if n == _INITIAL or (n.startswith("init_") and callable(getattr(module, n)))]


def _recorder(module: nn.Module, method: str, is_recording: Callable[[], bool], record: Record) -> Callable[[], Any]:
    original: Callable[[], Any] = getattr(module, method)

    def recorded() -> Any:
        return record(call_initial, (module, method)) if is_recording() else original()

    return recorded


def _class_recorder(
    model: nn.Module, cls: Any, name: str, original: Any, is_recording: Callable[[], bool], record: Record
) -> Any:
    def recorded(_: Any) -> None:
        if not is_recording():
            original.__get__(None, cls)()
            return
        known = [m for m in model.modules() if isinstance(m, cls) and any(m is other for other in cls.instances)]
        for module in known:
            if name == "reset_hidden":
                record(call_initial, (module, _INITIAL))
            else:
                record(call_detach, (module,))

    return classmethod(recorded)
