"""Parameters of NIR neurons: arrays of the shape of a layer, read as one number or one per channel.

Writers turn their own parameter p (a decay, a rate) into a time constant and round it. `recovered` finds p again: of
the numbers that the writer would have turned into just what stands in the graph, the one with the fewest digits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from spikenm_compile.errors import InputError
from spikenm_compile.frontend.nir.package import kind_of

Array: TypeAlias = NDArray[np.floating[Any]]
"""Shape () or [C]; float32 or float64 as in the graph."""
Constant = float | tuple[float, ...]

FIELDS: Mapping[str, tuple[str, ...]] = {
    "I": ("r",),
    "IF": ("r", "v_threshold", "v_reset"),
    "LI": ("tau", "r", "v_leak"),
    "LIF": ("tau", "r", "v_leak", "v_threshold", "v_reset"),
    "CubaLI": ("tau_syn", "tau_mem", "r", "v_leak", "w_in"),
    "CubaLIF": ("tau_syn", "tau_mem", "r", "v_leak", "w_in", "v_threshold", "v_reset"),
    "Threshold": ("threshold",),
}
"""NIR neuron -> its parameters."""
_RTOL = 1e-5
"""Writers compute r = tau / dt and the like in float32."""
_DIGITS = 17


@dataclass(frozen=True)
class Unit:
    """The parameters of one NIR neuron node."""

    name: str
    kind: str
    parameters: Mapping[str, Array]

    def __getitem__(self, field: str) -> Array:
        return self.parameters[field]

    def constant(self, field: str) -> Constant:
        """A parameter as a constant of a canonical neuron."""
        return as_constant(self.parameters[field])

    def first(self, field: str) -> float:
        """A parameter as the first value of a state.

        Raises:
            InputError: it differs from channel to channel.
        """
        found = self.constant(field)
        if isinstance(found, tuple):
            raise InputError(
                f"{self} starts its potential at {field}, which has {len(found)} values; a state starts at one number; "
                f"give {field} one value"
            )
        return found

    def is_close(self, field: str, expected: Array | float) -> bool:
        """Whether a parameter is the expected number, but for rounding."""
        return bool(np.allclose(self.parameters[field], expected, rtol=_RTOL, atol=0.0))

    def __str__(self) -> str:
        return f"node '{self.name}' ({self.kind}) of the NIR graph"


def unit_of(name: str, node: Any) -> Unit:
    """The parameters of a neuron node.

    Raises:
        InputError: they are no numbers, or differ inside a channel.
    """
    kind = kind_of(node)
    return Unit(name, kind, {field: _per_channel(name, kind, field, getattr(node, field)) for field in FIELDS[kind]})


def as_constant(values: Array) -> Constant:
    """An array [] or [C] as a constant of a canonical neuron."""
    return float(values) if values.ndim == 0 else tuple(float(v) for v in values)


def recovered(stored: Array, guess: Array, write: Callable[[Any], Any]) -> Array:
    """The writer's own parameter.

    Args:
        stored: what the graph holds.
        guess: the parameter computed from it, with rounding errors.
        write: what the writer stores for a parameter, in its arithmetic.

    Returns:
        Shape and type of `guess`: the guess itself where no shorter number gives just what is stored.
    """
    pairs = zip(np.atleast_1d(stored), np.atleast_1d(guess), strict=True)
    found = [_roundest(one, close, write) for one, close in pairs]
    return np.array(found, dtype=guess.dtype).reshape(guess.shape)


def _roundest(stored: Any, guess: Any, write: Callable[[Any], Any]) -> Any:
    for digits in range(1, _DIGITS + 1):
        candidate = guess.dtype.type(f"{guess:.{digits}g}")
        with np.errstate(divide="ignore"):
            if write(candidate) == stored:
                return candidate
    return guess


def _per_channel(name: str, kind: str, field: str, value: Any) -> Array:
    array = np.asarray(value)
    if array.dtype.kind not in "fiu" or array.size == 0 or bool(np.isnan(array).any()):
        raise InputError(
            f"parameter {field} of node '{name}' ({kind}) of the NIR graph is no array of numbers ({array.dtype}, "
            f"shape {list(array.shape)}); finite numbers are supported; write the graph again"
        )
    values: Array = array if array.dtype in (np.float32, np.float64) else array.astype(np.float64)
    if bool((values == values.flat[0]).all()):
        return np.array(values.flat[0])
    rows = values.reshape(len(values), -1)
    if not bool((rows == rows[:, :1]).all()):
        raise InputError(
            f"parameter {field} of node '{name}' ({kind}) of the NIR graph, of shape {list(array.shape)}, differs from "
            "neuron to neuron of one channel; one number, or one per channel, is supported; average it over channels"
        )
    return np.ascontiguousarray(rows[:, 0])
