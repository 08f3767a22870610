"""The neurons of a tile of channels at one pixel: their states in registers over time, and where their output goes.

    load     states from memory            once before the time loop
    step     all equations, in order       at each step
    save     states to memory              once after it

Kernel parameters are the constants per channel, the states, and the output: spikes as bits, counts as bytes, real
numbers as float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spikenm_compile.equations import Evaluator
from spikenm_compile.lowering import tir
from spikenm_compile.lowering.kernels.spike_bits import write_bits
from spikenm_compile.lowering.kernels.tir_algebra import TirAlgebra
from spikenm_compile.lowering.layout import Bits, Bytes, Floats
from spikenm_compile.lowering.tir import Buffer, Expr
from spikenm_compile.neurons import Neuron

Output = Bits | Bytes | Floats


def neuron_params(neuron: Neuron, out: Output) -> list[tir.Param]:
    """Kernel parameters of a layer of neurons."""
    names = (*neuron.per_channel, *neuron.states)
    dtype = "uint8" if isinstance(out, Bits) else out.dtype
    return [*(tir.Param(name, "float32") for name in names), tir.Param("out", dtype)]


@dataclass(frozen=True)
class NeuronBuffers:
    """The buffers of `neuron_params`, by what they are."""

    constants: dict[str, Buffer]
    states: dict[str, Buffer]
    out: Buffer

    @classmethod
    def of(cls, neuron: Neuron, buffers: Sequence[Buffer]) -> NeuronBuffers:
        """Take the buffers apart."""
        count = len(neuron.per_channel)
        constants = dict(zip(neuron.per_channel, buffers, strict=False))
        return cls(constants, dict(zip(neuron.states, buffers[count:], strict=False)), buffers[-1])


class NeuronTile:
    """`width` neurons from channel `first` on.

    Args:
        neuron: the equations.
        out: layout of the output.
        first: the first channel, a multiple of 8.
        width: number of channels.
        buffers: of the kernel.
    """

    def __init__(self, neuron: Neuron, out: Output, first: Expr, width: int, buffers: NeuronBuffers) -> None:
        self.neuron, self.out, self.first, self.width, self.buffers = neuron, out, first, width, buffers
        self.algebra = TirAlgebra(width)
        self.evaluate = Evaluator(self.algebra)
        self.lanes = tir.lanes(0, width)
        self.states = {name: tir.local(width, "float32") for name in neuron.states}

    def load(self, y: Expr, x: Expr) -> None:
        """Before the time loop."""
        for name, local in self.states.items():
            tir.store(local, self.lanes, self.buffers.states[name][self._state_at(y, x)])

    def step(self, currents: Sequence[Expr], t: Expr, y: Expr, x: Expr) -> None:
        """Inside the time loop: one step of all equations on a current for each input, and its output."""
        values = self._given(currents)
        for equation in self.neuron.parsed:
            value = self.evaluate(equation.expression, values)
            if isinstance(value, float):
                values[equation.name] = value
                continue
            values[equation.name] = tir.named(value)
            if equation.name in self.states:
                tir.store(self.states[equation.name], self.lanes, values[equation.name])
        self._write(values[self.neuron.output], t, y, x)

    def save(self, y: Expr, x: Expr) -> None:
        """After the time loop."""
        for name, local in self.states.items():
            tir.store(self.buffers.states[name], self._state_at(y, x), local[self.lanes])

    def _given(self, currents: Sequence[Expr]) -> dict[str, Expr]:
        """Inputs, constants and states before the step."""
        values: dict[str, Expr] = {**dict(zip(self.neuron.inputs, currents, strict=True)), **self.neuron.scalars}
        values |= {name: self._constant(buffer) for name, buffer in self.buffers.constants.items()}
        return values | {name: local[self.lanes] for name, local in self.states.items()}

    def _constant(self, buffer: Buffer) -> Expr:
        """A constant of each channel."""
        return buffer[tir.lanes(self.first, self.width)]

    def _state_at(self, y: Expr, x: Expr) -> Expr:
        pixel = y * self.out.width + x
        return tir.lanes(pixel * self.out.channels + self.first, self.width)

    def _write(self, value: Expr, t: Expr, y: Expr, x: Expr) -> None:
        if isinstance(self.out, Bits):
            for plane in range(self.out.most):
                word = self.out.at(t, y, x) + plane * self.out.words
                above = value if self.out.most == 1 else self.algebra.above(value, self.algebra.constant(plane))
                # words are little-endian
                write_bits(above, self.width, self.buffers.out, word * 8 + self.first // 8)
            return
        at = tir.lanes(self.out.at(t, y, x) + self.first, self.width)
        if isinstance(self.out, Bytes):
            value = tir.cast(self.out.dtype, self.width, tir.cast("int32", self.width, value))
        tir.store(self.buffers.out, at, value)
