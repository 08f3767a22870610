"""A layer of neurons as a C function: the equations of one step for all channels of a pixel, in order."""

from __future__ import annotations

from collections.abc import Iterator

from spikenm_compile.equations import Equation, Evaluator, names_in
from spikenm_compile.lowering.c.algebra import CAlgebra
from spikenm_compile.lowering.c.layouts import Kind
from spikenm_compile.lowering.c.names import Names
from spikenm_compile.lowering.c.sources import identifiers
from spikenm_compile.neurons import Neuron

TAKEN = identifiers() | {"at", "bits", "c", "currents", "first", "layer", "out", "pixel", "state"}
"""Names that mean something else in the function."""


class NeuronCode:
    """The function of one neuron that emits values of one kind.

    Args:
        name: of the function.
        neuron: the equations.
        kind: SPIKE_BITS, bytes or FLOATS.
    """

    def __init__(self, name: str, neuron: Neuron, kind: Kind) -> None:
        self.name, self.neuron, self.kind = name, neuron, kind
        self._algebra = CAlgebra()
        self._equations = needed(neuron)
        self._read = read_before_assigned(neuron, self._equations)
        names = Names(TAKEN)
        self._local = {given: names.new(given) for given in (*neuron.inputs, *neuron.per_channel, *neuron.states)}
        self._memory = {name: names.new(f"{name}_at") for name in (*neuron.inputs, *neuron.states)}
        self._result = {
            e.name: names.new(f"{e.name}_next" if e.name in neuron.states else e.name) for e in self._equations
        }
        self.text = "\n".join(self._lines()) + "\n"

    @property
    def used(self) -> set[str]:
        """Kernel sources whose functions it calls."""
        return self._algebra.used

    def _lines(self) -> Iterator[str]:
        indent = " " * 8
        yield "/*"
        yield from (f" * {equation}" for equation in self.neuron.equations)
        yield from (f" * with {name} = {value:.9g}" for name, value in self.neuron.scalars.items())
        yield " */"
        yield f"static void {self.name}(const neurons *layer, size_t pixel, const void *const *currents, size_t first,"
        yield f"{' ' * len(f'static void {self.name}(')}uint8_t *state, void *out)"
        yield "{"
        yield from (f"    {line}" for line in self._before())
        yield "    for (size_t c = 0; c < layer->channels; ++c) {"
        yield from (indent + line for line in self._loads())
        yield from (indent + line for line in self._step())
        yield "    }"
        yield "}"

    def _before(self) -> Iterator[str]:
        yield "const size_t at = pixel * layer->channels;"
        for index, name in enumerate(self.neuron.states):
            yield f"float *{self._memory[name]} = (float *)(void *)(state + layer->states[{index}]) + at;"
        if not self.neuron.states:
            yield "(void)state;"
        for index, name in enumerate(self.neuron.inputs):
            if name in self._read:
                yield f"const float *{self._memory[name]} = (const float *)currents[{index}] + first;"
        if not self._read.intersection(self.neuron.inputs):
            yield "(void)currents, (void)first;"
        if self.kind is Kind.BITS:
            yield "uint8_t *bits = (uint8_t *)out + pixel * ((layer->channels + 7) / 8);"
            yield "memset(bits, 0, (layer->channels + 7) / 8);"

    def _loads(self) -> Iterator[str]:
        for index, name in enumerate(self.neuron.per_channel):
            if name in self._read:
                yield f"const float {self._local[name]} = layer->constants[{index}][c];"
        for name in self._memory:
            if name in self._read:
                yield f"const float {self._local[name]} = {self._memory[name]}[c];"

    def _step(self) -> Iterator[str]:
        evaluate = Evaluator(self._algebra)
        values: dict[str, str | float] = {**self._local, **self.neuron.scalars}
        for equation in self._equations:
            value = evaluate(equation.expression, values)
            values[equation.name] = value
            if isinstance(value, str):
                values[equation.name] = self._result[equation.name]
                yield f"const float {self._result[equation.name]} = {_without_parentheses(value)};"
        for name in self.neuron.states:
            yield f"{self._memory[name]}[c] = {values[name]};"
        yield self._write(str(values[self.neuron.output]))

    def _write(self, value: str) -> str:
        if self.kind is Kind.BITS:
            return f"bits[c / 8] = (uint8_t)(bits[c / 8] | (unsigned)({value} != 0.0f) << c % 8);"
        if self.kind is Kind.FLOATS:
            return f"((float *)out)[at + c] = {value};"
        c_type = "int8_t" if self.kind is Kind.SIGNED else "uint8_t"
        return f"(({c_type} *)out)[at + c] = ({c_type}){value};"


def needed(neuron: Neuron) -> list[Equation]:
    """The equations that the output and the next states depend on, in order."""
    wanted, kept = {neuron.output, *neuron.states}, list[Equation]()
    for equation in reversed(neuron.parsed):
        if equation.name in wanted:
            kept.append(equation)
            wanted.update(names_in(equation.expression))
    return kept[::-1]


def read_before_assigned(neuron: Neuron, equations: list[Equation]) -> set[str]:
    """Inputs, constants, and states whose value before the step is read."""
    read, assigned = set[str](), set[str]()
    for equation in equations:
        read.update(name for name in names_in(equation.expression) if name not in assigned)
        assigned.add(equation.name)
    return read


def _without_parentheses(expression: str) -> str:
    """Without the outermost pair, if it is one."""
    depth = 0
    for index, character in enumerate(expression):
        depth += (character == "(") - (character == ")")
        if depth == 0 and index < len(expression) - 1:
            return expression
    return expression[1:-1] if expression.startswith("(") else expression
