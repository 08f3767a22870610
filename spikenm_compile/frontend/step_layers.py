"""Which layers a step graph takes, as plain torch modules in eval mode that share the user's parameters."""

from __future__ import annotations

from torch import nn

from spikenm_compile.errors import CaptureError
from spikenm_compile.frontend.adapters import plain_layer, stateful_types
from spikenm_compile.frontend.layer_rules import LAYER_RULES, rule_of
from spikenm_compile.frontend.recording import AutogradFunction

_ABSENT = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
_FUNCTIONS = (nn.Softmax, nn.Unflatten)
"""Modules that are a function on dimensions of each sample."""


def step_layer(name: str, module: nn.Module) -> nn.Module | None:
    """The plain layer of `module`, the user's `name`; None: it does nothing in eval mode.

    Raises:
        CaptureError: a step graph does not take it.
    """
    try:
        plain = plain_layer(module)
    except CaptureError as error:
        raise CaptureError(f"layer '{name}': {error}") from error
    if isinstance(plain, _ABSENT):
        return None
    if plain is None or (rule_of(plain) is None and not isinstance(plain, _FUNCTIONS)):
        raise CaptureError(_unsupported(name, module))
    return plain


def _unsupported(name: str, module: nn.Module) -> str:
    kind = type(module).__name__
    if isinstance(module, AutogradFunction):
        return (
            f"the autograd function {module.function.__name__} is a spiking function written by hand; a step graph "
            "takes whole neurons; use the neurons of spikenm_compile.neurons, or make a "
            "neuron of yours known with spikenm_compile.register_neuron"
        )
    if isinstance(module, stateful_types()):
        return (
            f"layer '{name}' ({kind}) keeps a state that a step graph does not know; only neurons keep state there; "
            "replace it by neurons"
        )
    supported = ", ".join(cls.__name__ for cls in (*LAYER_RULES, *_FUNCTIONS))
    return f"layer '{name}' is a {kind}; a step graph takes {supported} and neurons; replace it by one of these"
