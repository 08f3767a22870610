"""A step of a layer of neurons as ONNX nodes: its equations, operation by operation."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto
from torch.fx import Node

from spikenm_compile import ops
from spikenm_compile.equations import Evaluator
from spikenm_compile.graph import SHAPE
from spikenm_compile.lowering.exact import check_exact
from spikenm_compile.lowering.onnx_fragment import Fragment


class OnnxAlgebra:
    """Operations on names of float32 values; each adds nodes to `fragment`."""

    def __init__(self, fragment: Fragment) -> None:
        self.fragment = fragment
        self.op = fragment.op

    def constant(self, value: float) -> str:
        """A scalar."""
        return self.fragment.scalar(value)

    def negative(self, a: str) -> str:
        """-a."""
        return self.op("Neg", a)

    def add(self, a: str, b: str) -> str:
        """Sum, not Add: ONNX Runtime removes an Add of a single 0.0, which turns -0.0 into 0.0."""
        return self.op("Sum", a, b)

    def subtract(self, a: str, b: str) -> str:
        """A - b."""
        return self.op("Sub", a, b)

    def multiply(self, a: str, b: str) -> str:
        """A · b."""
        return self.op("Mul", a, b)

    def divide(self, a: str, b: str) -> str:
        """A / b."""
        return self.op("Div", a, b)

    def above(self, a: str, b: str) -> str:
        """A > b."""
        return self._as_float(self.op("Greater", a, b))

    def at_least(self, a: str, b: str) -> str:
        """A >= b."""
        return self._as_float(self.op("GreaterOrEqual", a, b))

    def equal(self, a: str, b: str) -> str:
        """A == b."""
        return self._as_float(self.op("Equal", a, b))

    def where(self, c: str, a: str, b: str) -> str:
        """A where c != 0, else b."""
        return self.op("Where", self.op("Cast", c, to=TensorProto.BOOL), a, b)

    def maximum(self, a: str, b: str) -> str:
        """Not Max, which keeps a NaN."""
        return self.op("Where", self.op("Greater", a, b), a, b)

    def minimum(self, a: str, b: str) -> str:
        """Not Min, which keeps a NaN."""
        return self.op("Where", self.op("Less", a, b), a, b)

    def round(self, a: str) -> str:
        """Ties to even."""
        return self.op("Round", a)

    def trunc(self, a: str) -> str:
        """ONNX rounds up and down only."""
        is_negative = self.op("Less", a, self.constant(0.0))
        return self.op("Where", is_negative, self.op("Ceil", a), self.op("Floor", a))

    def absolute(self, a: str) -> str:
        """|a|."""
        return self.op("Abs", a)

    def _as_float(self, condition: str) -> str:
        return self.op("Cast", condition, to=TensorProto.FLOAT)


def neuron_step(fragment: Fragment, node: Node, module: ops.NeuronStep, *given: str) -> tuple[str, ...]:
    """Names of (output, *next states) from those of the inputs and states.

    Raises:
        PassError: the neuron is not exact.
    """
    check_exact(module)
    neuron = module.neuron
    values: dict[str, str | float] = {**neuron.scalars}
    values.update(zip((*neuron.inputs, *neuron.states), given, strict=True))
    for name, numbers in neuron.per_channel.items():
        over_space = [1] * (len(node.meta[SHAPE]) - 1)
        values[name] = fragment.constant(np.array(numbers, np.float32).reshape(-1, *over_space), name)
    evaluate = Evaluator(OnnxAlgebra(fragment))
    for equation in neuron.parsed:
        values[equation.name] = evaluate(equation.expression, values)
    return tuple(str(values[name]) for name in (neuron.output, *neuron.states))
