"""A list of ONNX nodes and constants in the making: the main graph, or the body of a loop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

Shape = Sequence[int | str]
"""Sizes of a tensor; a string is a size known at run time."""


def float_value(name: str, shape: Shape) -> ValueInfoProto:
    """Declaration of a float32 tensor."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


@dataclass
class Fragment:
    """Collects nodes in order. Values are named `<prefix>.<kind>`, numbered where taken.

    The prefix is the name of the fx node that is being lowered, which holds no dot: no name of the model's interface
    (input, state, layer) is ever taken.
    """

    prefix: str = ""
    nodes: list[NodeProto] = field(default_factory=list)
    initializers: list[TensorProto] = field(default_factory=list)
    _taken: Counter[str] = field(default_factory=Counter)

    def op(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output; returns the output's name."""
        output = self._unique(op_type.lower())
        self.nodes.append(helper.make_node(op_type, inputs, [output], output, **attributes))
        return output

    def constant(self, array: npt.NDArray[Any], kind: str = "constant") -> str:
        """Add a constant in the array's dtype; returns its name."""
        name = self._unique(kind)
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name))
        return name

    def scalar(self, value: float) -> str:
        """Add a float32 scalar, rounded to nearest as PyTorch rounds a Python number."""
        return self.constant(np.array(value, np.float64).astype(np.float32))

    def rename(self, value: str, name: str) -> str:
        """Give a value a second name, for an interface."""
        self.nodes.append(helper.make_node("Identity", [value], [name], f"{name}.identity"))
        return name

    def graph(self, name: str, inputs: Sequence[ValueInfoProto], outputs: Sequence[ValueInfoProto]) -> GraphProto:
        """The finished graph."""
        return helper.make_graph(self.nodes, name, inputs, outputs, self.initializers)

    def _unique(self, kind: str) -> str:
        base = f"{self.prefix}.{kind}"
        self._taken[base] += 1
        return base if self._taken[base] == 1 else f"{base}_{self._taken[base]}"
