"""Put the former package `spikingjelly.clock_driven` among the imported modules."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from spikenm_compile.errors import CaptureError, ToolError
from spikenm_compile.frontend.clock_driven.former import former_class
from spikenm_compile.frontend.clock_driven.names import MODULES, RENAMED

_FORMER = "spikingjelly.clock_driven"
_CURRENT = "spikingjelly.activation_based"


def install_clock_driven() -> None:
    """Let model files that import `spikingjelly.clock_driven` run on SpikingJelly 2.0.

    `clock_driven.neuron`, `layer`, `functional`, `surrogate`, `encoding` and `base` can be imported from now on. Their
    `MultiStep…` classes make objects of SpikingJelly 2.0 in multi-step mode, which capture knows; `backend=` and what
    else chose the implementation is ignored. Calling it again changes nothing.

    Raises:
        ToolError: SpikingJelly is not installed, or is one that has this package itself.
    """
    if isinstance(sys.modules.get(_FORMER), _FormerModule):
        return
    _check_version()
    package = _FormerModule(_FORMER, "The former package of SpikingJelly.")
    package.__path__ = []
    for name in MODULES:
        module = _module(name)
        sys.modules[module.__name__] = module
        setattr(package, name, module)
    sys.modules[_FORMER] = package
    sys.modules["spikingjelly"].clock_driven = package  # type: ignore[attr-defined]


class _FormerModule(ModuleType):
    """A module that says in one sentence what it does not have."""

    def __getattr__(self, name: str) -> Any:
        """Refuse a name; names of Python's own protocols are absent in the usual way."""
        if name.startswith("__"):
            raise AttributeError(name)
        # an AttributeError would become "cannot import name", and the sentence be lost
        raise CaptureError(
            f"'{name}' of the former {self.__name__} has no counterpart in SpikingJelly 2.0; "
            f"{', '.join(_names(self))} are there; use one of these, or port the file to {_CURRENT}"
        )


def _names(module: ModuleType) -> list[str]:
    """What is there, the renamed names only where there are any."""
    renamed = RENAMED.get(module.__name__.rpartition(".")[2])
    return [*renamed] if renamed else [name for name in vars(module) if not name.startswith("_")]


def _module(name: str) -> ModuleType:
    current = importlib.import_module(f"{_CURRENT}.{name}")
    module = _FormerModule(f"{_FORMER}.{name}", current.__doc__)
    vars(module).update({key: value for key, value in vars(current).items() if not key.startswith("_")})
    for former, renamed in RENAMED.get(name, {}).items():
        cls: Callable[..., Any] = former_class(former, renamed, getattr(current, renamed.name), module.__name__)
        setattr(module, former, cls)
    return module


def _check_version() -> None:
    if importlib.util.find_spec("spikingjelly") is None:
        raise ToolError("SpikingJelly is not installed; version 2.0 is supported; run pip install spikingjelly==2.0.0")
    if importlib.util.find_spec(_FORMER) is not None:
        raise ToolError(
            f"the installed SpikingJelly has {_FORMER} itself and is too old to be captured; version 2.0 is supported; "
            "run pip install spikingjelly==2.0.0"
        )
