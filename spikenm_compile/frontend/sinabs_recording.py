"""Record how sinabs resets its layers during forward: `layer.reset_states()`, `sinabs.reset_states(model)`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from spikenm_compile.errors import CaptureError
from spikenm_compile.frontend.recording import Record, call_reset

_RESET = "reset_states"
"""Method that sets the states of one layer to zeros."""


@contextmanager
def recorded_resets(model: nn.Module, is_recording: Callable[[], bool], record: Record) -> Iterator[None]:
    """Inside, `reset_states()` of a layer of `model`, as sinabs.reset_states(model) calls it, becomes a node."""
    base = getattr(sys.modules.get("sinabs.layers.stateful_layer"), "StatefulLayer", None)
    shadowed = [] if base is None else [module for module in model.modules() if isinstance(module, base)]
    for module in shadowed:
        module.__dict__[_RESET] = _recorder(module, is_recording, record)
    try:
        yield
    finally:
        for module in shadowed:
            module.__dict__.pop(_RESET, None)


def _recorder(module: nn.Module, is_recording: Callable[[], bool], record: Record) -> Callable[..., None]:
    node: Any = module
    original: Callable[..., None] = node.reset_states

    def recorded(*args: Any, **kwargs: Any) -> None:
        if not is_recording():
            original(*args, **kwargs)
        elif args or kwargs:
            raise CaptureError(
                f"forward resets a {type(module).__name__} to random states; a reset to zero is supported; call "
                "reset_states() without arguments"
            )
        else:
            record(call_reset, (module, _RESET))

    return recorded
