"""The canonical spiking neuron: a short list of equations, and its step in PyTorch, the reference of every target.

    equations    "h = v + (x - v) / tau", "s = h >= v_threshold", "v = where(s, 0, h)"
    states       v: 0.0                    value before the first step
    constants    tau: 2.0, v_threshold: 1.0
    output       "s", with levels: spikes

x is the input current; a neuron may have several and says itself in which order they add: "h = beta * v + x + rec". The
name of a state reads its value before the step until its equation, and after the step from then on. Equations and not
coefficients: algebraically equal forms differ in float32 in 20-72 % of final potentials, so that the order of
operations is part of what a neuron is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from spikenm_compile.equations import (
    FUNCTIONS,
    INEXACT,
    LARGEST,
    Equation,
    Evaluator,
    Expression,
    names_in,
    operations_in,
    parse,
)
from spikenm_compile.errors import InputError
from spikenm_compile.levels import SPIKES, Levels
from spikenm_compile.neurons.frozen_mapping import FrozenMapping
from spikenm_compile.neurons.torch_algebra import TorchAlgebra
from spikenm_compile.neurons.value_range import ANY, Range, RangeAlgebra

MAX_EQUATIONS = 64
ConstantValue = float | tuple[float, ...]


@dataclass(frozen=True)
class Neuron:
    """A canonical neuron. Potentials are in the unit of the input current; time is in steps.

    Raises:
        InputError: equations that cannot be read or do not fit together, or an output that does not have its levels.
    """

    equations: tuple[str, ...]
    """In order of evaluation; see `spikenm_compile.equations` for the language."""
    states: Mapping[str, float]
    """State -> its first value. Each is assigned by exactly one equation, which gives its next value."""
    constants: Mapping[str, ConstantValue] = field(default_factory=dict)
    """Constant -> number, or one number for each channel (dimension 1 of the input)."""
    output: str = "s"
    """Name of the value that the neuron emits."""
    levels: Levels | None = SPIKES
    """What the output is: spikes, counts low..high, or None: real numbers."""
    inputs: tuple[str, ...] = ("x",)
    """Names of the input currents, which all have the shape of the output."""

    def __post_init__(self) -> None:
        constants = {name: _constant(name, self.constants[name]) for name in sorted(self.constants)}
        states = {name: _number(f"state '{name}'", value) for name, value in self.states.items()}
        for name, texts in (("equations", tuple(self.equations)), ("inputs", tuple(self.inputs))):
            object.__setattr__(self, name, texts)
        object.__setattr__(self, "constants", FrozenMapping(constants))
        object.__setattr__(self, "states", FrozenMapping(states))
        _check_names(self)
        _check_output(self)

    @cached_property
    def parsed(self) -> tuple[Equation, ...]:
        """The equations as trees."""
        return tuple(parse(text) for text in self.equations)

    @cached_property
    def per_channel(self) -> dict[str, tuple[float, ...]]:
        """Constants with one value for each channel."""
        return {name: value for name, value in self.constants.items() if isinstance(value, tuple)}

    @cached_property
    def scalars(self) -> dict[str, float]:
        """Constants that are one number."""
        return {name: value for name, value in self.constants.items() if isinstance(value, float)}

    @cached_property
    def inexact(self) -> tuple[str, ...]:
        """Operations that need not give the same last bit on another machine."""
        used = {operation for equation in self.parsed for operation in operations_in(equation.expression)}
        return tuple(sorted(used & INEXACT))

    @property
    def is_exact(self) -> bool:
        """Whether every machine computes the same numbers."""
        return not self.inexact

    @property
    def is_binary(self) -> bool:
        """Whether the output is spikes, which one bit holds."""
        return self.levels is not None and self.levels.is_binary

    def __str__(self) -> str:
        text = "; ".join(_substitute(equation, self.scalars) for equation in self.equations)
        for name, values in self.per_channel.items():
            text += f"; {name} {min(values):.9g}..{max(values):.9g} per channel"
        if len(self.inputs) > 1:
            text += f"; inputs {', '.join(self.inputs)}"
        is_usual = self.output == "s" and self.levels == SPIKES
        return text if is_usual else f"{text}; emits {self.output} ({self.levels or 'real'})"


def step(
    inputs: Tensor | Sequence[Tensor], states: Sequence[Tensor] | Mapping[str, Tensor], neuron: Neuron
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """One time step of inference; no gradient goes through spikes.

    Args:
        inputs: input current [B, C, ...], or one for each of `neuron.inputs`; without constants per channel any shape.
        states: of the shape of the inputs, by name or in the order of `neuron.states`.
        neuron: the equations.

    Returns:
        Output, and next states in the order of `neuron.states`.

    Raises:
        InputError: another number of inputs or of channels than the neuron has, or inputs of different shapes.
    """
    currents = [inputs] if isinstance(inputs, Tensor) else inputs
    values: dict[str, Tensor | float] = {**input_tensors(neuron, currents), **neuron.scalars}
    values.update(channel_tensors(neuron, currents[0]))
    by_name = states if isinstance(states, Mapping) else dict(zip(neuron.states, states, strict=True))
    values.update(by_name)
    evaluate = Evaluator(TorchAlgebra())
    for equation in neuron.parsed:
        values[equation.name] = evaluate(equation.expression, values)
    return as_tensor(values[neuron.output]), tuple(as_tensor(values[name]) for name in neuron.states)


def input_tensors(neuron: Neuron, currents: Sequence[Tensor]) -> dict[str, Tensor]:
    """The input currents by name."""
    shapes = [list(current.shape) for current in currents]
    if len(currents) != len(neuron.inputs) or any(shape != shapes[0] for shape in shapes):
        raise InputError(
            f"a neuron gets currents of shapes {shapes}; it takes one for each of {', '.join(neuron.inputs)}, all of "
            f"one shape; give {len(neuron.inputs)}"
        )
    return dict(zip(neuron.inputs, currents, strict=True))


def channel_tensors(neuron: Neuron, x: Tensor) -> dict[str, Tensor]:
    """Constants per channel as tensors that broadcast over x [B, C, ...]."""
    tensors = {}
    for name, values in neuron.per_channel.items():
        if x.dim() < 2 or x.shape[1] != len(values):
            raise InputError(
                f"a neuron has {len(values)} values of '{name}', one for each channel, and gets a current of shape "
                f"{list(x.shape)}; dimension 1 is the channel; give as many values as there are channels, or one number"
            )
        tensors[name] = torch.tensor(values, dtype=x.dtype, device=x.device).view(-1, *[1] * (x.dim() - 2))
    return tensors


def as_tensor(value: Tensor | float) -> Tensor:
    """The value of a state or output, which `Neuron` has checked to depend on an input or a state."""
    assert isinstance(value, Tensor)
    return value


def _constant(name: str, value: ConstantValue) -> ConstantValue:
    """A number as it is; values per channel rounded to float32, in which they are stored."""
    if not isinstance(value, Sequence):
        return _number(f"constant '{name}'", value)
    rounded = tuple(float(np.float32(_number(f"constant '{name}'", v))) for v in value)
    if not rounded:
        raise InputError(f"constant '{name}' of a neuron has no values; one number or one for each channel is needed")
    return rounded if len(rounded) > 1 else rounded[0]


def _number(what: str, value: float) -> float:
    number = float(value)
    if math.isnan(number) or (abs(number) > LARGEST and not math.isinf(number)):
        raise InputError(f"{what} of a neuron is {number}; numbers of float32 are supported; check the parameters")
    return number


def _check_names(neuron: Neuron) -> None:
    """Every name is read after it is known, and assigned once."""
    if not 0 < len(neuron.equations) <= MAX_EQUATIONS:
        raise _wrong(neuron, f"{len(neuron.equations)} equations", f"1 to {MAX_EQUATIONS} are supported")
    if not neuron.inputs or not all(name.isidentifier() for name in neuron.inputs):
        raise _wrong(neuron, f"the inputs {neuron.inputs}", "one name or several are supported")
    fixed = {*neuron.inputs, *neuron.constants}
    given = [*neuron.inputs, *neuron.constants, *neuron.states, *FUNCTIONS]
    twice = [name for name in given if given.count(name) > 1]
    if twice:
        raise _wrong(neuron, f"'{twice[0]}' with two meanings", "inputs, constants, states and functions differ")
    known, assigned = fixed | neuron.states.keys(), set[str]()
    for equation in neuron.parsed:
        for name in names_in(equation.expression):
            if name not in known:
                supported = f"known there are {', '.join(sorted(known))}"
                raise _wrong(neuron, f"'{equation.text}', which reads the unknown '{name}'", supported)
        if equation.name in assigned or equation.name in fixed:
            raise _wrong(neuron, f"'{equation.text}', which assigns '{equation.name}' again", "a name is assigned once")
        assigned.add(equation.name)
        known.add(equation.name)
    missing = [name for name in (*neuron.states, neuron.output) if name not in assigned]
    if missing:
        raise _wrong(neuron, f"no equation of '{missing[0]}'", "each state and the output have one")


def _check_output(neuron: Neuron) -> None:
    """States and output change with the inputs, and the output has the levels that it is said to have."""
    varying = {*neuron.inputs, *neuron.states}
    for equation in neuron.parsed:
        (varying.add if _varies(equation.expression, varying) else varying.discard)(equation.name)
    for name in (*neuron.states, neuron.output):
        if name not in varying:
            supported = f"states and the output depend on {' or '.join(neuron.inputs)} or on a state"
            raise _wrong(neuron, f"'{name}', which never changes", supported)
    levels = neuron.levels
    if levels is None:
        return
    if levels.scale != 1.0 or not levels.fits_a_byte:
        raise _wrong(
            neuron, f"an output of {levels}", "whole numbers 0..255 or -128..127, without scale, are supported"
        )
    found = output_range(neuron)
    if not (found.is_whole and levels.low <= found.low and found.high <= levels.high):
        supported = f"it is said to be {levels}: emit a comparison, a count such as max(min(trunc(a), {levels.high}), "
        raise _wrong(neuron, f"an output '{neuron.output}' of {found}", f"{supported}{levels.low}), or set levels=None")


def output_range(neuron: Neuron) -> Range:
    """What the output can be, whatever the input."""
    ranges: dict[str, Range | float] = {**neuron.scalars}
    ranges |= {name: Range(min(v), max(v), all(map(float.is_integer, v))) for name, v in neuron.per_channel.items()}
    ranges |= dict.fromkeys((*neuron.inputs, *neuron.states), ANY)
    evaluate = Evaluator(RangeAlgebra())
    for equation in neuron.parsed:
        ranges[equation.name] = evaluate(equation.expression, ranges)
    found = ranges[neuron.output]
    assert isinstance(found, Range)
    return found


def _varies(expression: Expression, varying: set[str]) -> bool:
    return any(name in varying for name in names_in(expression))


def _wrong(neuron: Neuron, found: str, supported: str) -> InputError:
    return InputError(f"a neuron has {found}; {supported}; rewrite its equations ({'; '.join(neuron.equations)})")


def _substitute(equation: str, scalars: Mapping[str, float]) -> str:
    """The equation with numbers for the names of constants."""

    def number(match: re.Match[str]) -> str:
        return f"{scalars[match[0]]:.9g}" if match[0] in scalars else match[0]

    return re.sub(r"\b[A-Za-z_]\w*", number, equation)
