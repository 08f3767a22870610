"""What a canonical neuron does in continuous time, read off its equations.

Between spikes a neuron that NIR can say is affine in its input x, potential v and synaptic current i:

    i' = decay_syn · i + gain_syn · x
    h  = decay · v + gain · (x or i') + drift,      s = h > v_threshold,      v' = reset(h, s)

The equations are evaluated on such sums (an algebra of `spikenm_compile.equations`), so that it does not matter how
they are written. The numbers are float64.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from spikenm_compile.equations import Evaluator
from spikenm_compile.frontend.nir.parameters import Array
from spikenm_compile.neurons import Neuron

INPUT = "x"


@dataclass(frozen=True)
class Affine:
    """Σ coefficient · variable + offset."""

    terms: Mapping[str, Array]
    offset: Array

    @property
    def is_constant(self) -> bool:
        """Whether no variable takes part."""
        return not self.terms

    def __getitem__(self, name: str) -> Array:
        return self.terms.get(name, np.array(0.0))

    def equals(self, other: Affine) -> bool:
        """Whether both are the same sum."""
        same = all(np.array_equal(self[n], other[n]) for n in self.terms.keys() | other.terms.keys())
        return same and np.array_equal(self.offset, other.offset)


@dataclass(frozen=True)
class Spike:
    """`scale` where `distance` is above zero (or at it)."""

    distance: Affine
    scale: Array


@dataclass(frozen=True)
class AfterReset:
    """A potential after its spike: `to`, or `h - amount`."""

    h: Affine
    distance: Affine
    to: Array | None = None
    amount: Array | None = None


Sum = Affine | Spike | AfterReset


class NotAffineError(Exception):
    """An operation that leaves the form of a leaky integrator."""


class AffineAlgebra:
    """Operations on affine sums, on spikes, and on potentials that spikes reset."""

    def constant(self, value: float) -> Sum:
        """A number."""
        return Affine({}, np.array(value))

    def negative(self, a: Sum) -> Sum:
        """-a."""
        return _times(a, np.array(-1.0))

    def add(self, a: Sum, b: Sum) -> Sum:
        """A + b; a spike times a negative number lowers a potential."""
        if isinstance(a, Spike):
            a, b = b, a
        if isinstance(a, Affine) and isinstance(b, Spike):
            return AfterReset(a, b.distance, amount=-b.scale)
        return _plus(_affine(a), _affine(b))

    def subtract(self, a: Sum, b: Sum) -> Sum:
        """A - b."""
        return self.add(a, _times(b, np.array(-1.0)))

    def multiply(self, a: Sum, b: Sum) -> Sum:
        """A · b, one of them a number."""
        if isinstance(a, Affine) and a.is_constant:
            return _times(b, a.offset)
        return _times(a, _number(b))

    def divide(self, a: Sum, b: Sum) -> Sum:
        """A / b, b a number."""
        return _times(a, 1.0 / _number(b))

    def above(self, a: Sum, b: Sum) -> Sum:
        """A > b."""
        return Spike(_plus(_affine(a), _affine(_times(b, np.array(-1.0)))), np.array(1.0))

    def at_least(self, a: Sum, b: Sum) -> Sum:
        """A >= b: NIR has one kind of threshold."""
        return self.above(a, b)

    def where(self, c: Sum, a: Sum, b: Sum) -> Sum:
        """A after a spike, else b: the reset to a value, or by one."""
        h, after = _affine(b), _affine(a)
        if not isinstance(c, Spike):
            return _refuse(c)
        if after.is_constant:
            return AfterReset(h, c.distance, to=after.offset)
        amount = _plus(h, _affine(_times(after, np.array(-1.0))))
        return AfterReset(h, c.distance, amount=_number(amount))

    def equal(self, a: Sum, _b: Sum) -> Sum:
        """Not affine."""
        return _refuse(a)

    maximum = minimum = equal

    def round(self, a: Sum) -> Sum:
        """Not affine."""
        return _refuse(a)

    trunc = absolute = exp = sigmoid = log = round


def evaluated(neuron: Neuron) -> dict[str, Sum]:
    """The output and next state by name, of variables before the step.

    Raises:
        NotAffineError: several inputs, or an equation that is none of a leaky integrator.
    """
    if neuron.inputs != (INPUT,):
        raise NotAffineError
    names = (INPUT, *neuron.states)
    values: dict[str, Sum | float] = {name: Affine({name: np.array(1.0)}, np.array(0.0)) for name in names}
    values |= {n: v if isinstance(v, float) else Affine({}, np.array(v)) for n, v in neuron.constants.items()}
    algebra = AffineAlgebra()
    evaluate = Evaluator[Sum](algebra)
    for equation in neuron.parsed:
        values[equation.name] = evaluate(equation.expression, values)
    wanted = (neuron.output, *neuron.states)
    return {n: algebra.constant(v) if isinstance(v, float) else v for n, v in values.items() if n in wanted}


def _plus(a: Affine, b: Affine) -> Affine:
    terms = {name: a[name] + b[name] for name in a.terms.keys() | b.terms.keys()}
    return Affine({name: value for name, value in terms.items() if value.any()}, a.offset + b.offset)


def _times(a: Sum, factor: Array) -> Sum:
    if isinstance(a, Affine):
        terms = {name: value * factor for name, value in a.terms.items()}
        return Affine({name: value for name, value in terms.items() if value.any()}, a.offset * factor)
    return Spike(a.distance, a.scale * factor) if isinstance(a, Spike) else _refuse(a)


def _affine(a: Sum) -> Affine:
    return a if isinstance(a, Affine) else _refuse(a)


def _number(a: Sum) -> Array:
    found = _affine(a)
    return found.offset if found.is_constant else _refuse(a)


def _refuse(_a: Any) -> NoReturn:
    raise NotAffineError
