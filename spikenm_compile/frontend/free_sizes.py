"""Numbers of steps and of samples in a captured graph: they are the example's, and other inputs have others.

fine       for t in range(x.shape[0]): ...          the step graph is right for every T
fine       total / x.shape[0]                       behind the loop: a mean
refused    rate = rate + spikes / x.shape[0]        the example's T would stay in the graph
"""

from __future__ import annotations

from typing import Any

from torch.fx import Node

from spikenm_compile.errors import CaptureError
from spikenm_compile.frontend.axes import BATCH, TIME, Axes, axes_of
from spikenm_compile.frontend.time_algebra import Time
from spikenm_compile.frontend.values import Reduce, Running, Value

_FREE = (TIME, BATCH)
_ARITHMETIC = ("add", "sub", "rsub", "mul", "multiply", "truediv", "div", "maximum")


class FreeSizes:
    """Nodes that hold a free size, or a number made of one.

    Args:
        time: the step graph under construction.
    """

    def __init__(self, time: Time) -> None:
        self.time = time
        self._nodes: set[Node] = set()
        self._shapes: dict[Node, Axes] = {}

    def note(self, node: Node, name: str, value: Any, source: Any) -> None:
        """Remember what a call of `name` gives; `source` is the value of its first argument."""
        if isinstance(source, Value) and (name == "shape" or (name == "size" and len(node.args) == 1)):
            self._shapes[node] = axes_of(self.time, source)
        elif isinstance(value, int | float) and self._is_free(node, name, source):
            self._nodes.add(node)

    def _is_free(self, node: Node, name: str, source: Any) -> bool:
        first = node.args[0] if node.args else None
        if name == "getitem" and isinstance(first, Node) and first in self._shapes:
            index = node.args[1]
            return isinstance(index, int) and self._shapes[first][index] in _FREE
        if isinstance(source, Value):
            if name == "size":
                index = node.args[1]
                return isinstance(index, int) and axes_of(self.time, source)[index] in _FREE
            return name in ("len", "numel")
        return any(n in self._nodes for n in node.all_input_nodes)

    def check(self, node: Node, name: str, operands: tuple[Any, ...]) -> None:
        """Refuse arithmetic of a value in time with a free size.

        Raises:
            CaptureError: it is not the mean over all steps.
        """
        free = [a for a in node.args if isinstance(a, Node) and a in self._nodes]
        if name not in _ARITHMETIC or not free or not any(isinstance(operand, Value) for operand in operands):
            return
        first = operands[0]
        is_sum = isinstance(first, Running) and first.reduce is Reduce.SUM and first.count == self.time.num_steps
        if is_sum and name in ("truediv", "div") and operands[1] == self.time.num_steps:
            return
        raise CaptureError(
            f"'{name}' of a value and the number of steps or samples would take that of the example for every input; "
            "a sum over all steps divided by their number is supported; divide after the loop, or use a number of your "
            "own"
        )
