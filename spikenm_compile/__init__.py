"""Train spiking neural networks N:M sparse in PyTorch and compile them to small, fast, verified artifacts.

    model = spikenm_compile.transform(model, "2:4")      # train as before
    model = spikenm_compile.fold(model)
    spikenm_compile.compile_model(model, x, "artifact")  # or: python -m spikenm_compile.build
    spikenm_compile.load("artifact").run(x)              # numpy only

Importing this package imports neither torch nor tvm nor onnx: a name is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from spikenm_compile.errors import SpikenmError
from spikenm_compile.pattern import Pattern

if TYPE_CHECKING:
    from spikenm_compile.bit_widths import bit_width_report
    from spikenm_compile.compiler import compile_model, fold, lower, transform
    from spikenm_compile.frontend.clock_driven.install import install_clock_driven
    from spikenm_compile.frontend.registered import register_neuron
    from spikenm_compile.learning import param_groups
    from spikenm_compile.pattern_choice import choose_patterns
    from spikenm_compile.runtime import load
    from spikenm_compile.verification import verify

__all__ = [
    "Pattern",
    "SpikenmError",
    "bit_width_report",
    "choose_patterns",
    "compile_model",
    "fold",
    "install_clock_driven",
    "load",
    "lower",
    "param_groups",
    "register_neuron",
    "transform",
    "verify",
]

_HOME = {
    "bit_width_report": "spikenm_compile.bit_widths",
    "choose_patterns": "spikenm_compile.pattern_choice",
    "compile_model": "spikenm_compile.compiler",
    "fold": "spikenm_compile.compiler",
    "install_clock_driven": "spikenm_compile.frontend.clock_driven.install",
    "load": "spikenm_compile.runtime",
    "lower": "spikenm_compile.compiler",
    "param_groups": "spikenm_compile.learning",
    "register_neuron": "spikenm_compile.frontend.registered",
    "transform": "spikenm_compile.compiler",
    "verify": "spikenm_compile.verification",
}


def __getattr__(name: str) -> object:
    """Load a public name from its module."""
    if name not in _HOME:
        raise AttributeError(f"module 'spikenm_compile' has no attribute '{name}'; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)
