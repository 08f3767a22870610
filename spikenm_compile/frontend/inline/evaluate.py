"""Numbers of nodes: constants of a captured graph, and single operations on chosen values."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.fx import GraphModule, Node
from torch.fx.node import map_arg

from spikenm_compile.frontend.inline.elementwise import operation
from spikenm_compile.frontend.proxy import VALUE

_FACTORIES = (
    *("zeros", "ones", "full", "empty", "tensor"),
    *("zeros_like", "ones_like", "full_like", "empty_like", "new_zeros", "new_ones", "new_full"),
)
"""Tensors whose values depend on no input, only their shape may."""
_SIZES = ("size", "getattr", "len", "dim", "numel")


def depends_on_data(node: Node, known: Mapping[Node, bool]) -> bool:
    """Whether the values of a node change with the model's inputs.

    Args:
        node: any node but the output.
        known: the same for all nodes before it.
    """
    if node.op == "placeholder":
        return True
    name = operation(node)
    is_size = name in _SIZES and not isinstance(node.meta.get(VALUE), Tensor)
    if node.op == "get_attr" or name in _FACTORIES or is_size:
        return False
    return node.op == "call_module" or any(known[n] for n in node.all_input_nodes)


class Values:
    """Values of nodes, computed when they are asked for.

    Args:
        graph_module: the graph.
        given: nodes whose values are chosen; what they depend on is not looked at. Any other node that depends on the
            input stands for zeros: only its shape can matter, to a constant.
    """

    def __init__(self, graph_module: GraphModule, given: Mapping[Node, Tensor]) -> None:
        self.graph_module = graph_module
        self._values: dict[Node, Any] = dict(given)

    def __getitem__(self, node: Node) -> Any:
        if node not in self._values:
            with torch.no_grad():
                self._values[node] = self._compute(node)
        return self._values[node]

    def constant(self, node: Node) -> Any:
        """Value of a node that depends on no data."""
        return self[node]

    def _compute(self, node: Node) -> Any:
        if node.op == "get_attr":
            found = operator.attrgetter(str(node.target))(self.graph_module)
            return found.detach() if isinstance(found, Tensor) else found
        if node.op == "placeholder":
            return _blank(node.meta[VALUE])
        args, kwargs = map_arg((node.args, node.kwargs), lambda n: self._argument(node, n))
        if node.op == "call_module":
            return self.graph_module.get_submodule(str(node.target))(*args, **kwargs)
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        assert callable(node.target)
        return node.target(*args, **kwargs)

    def _argument(self, node: Node, argument: Node) -> Any:
        """Of a tensor that only gives its shape or type to a constant, the values are not computed."""
        if argument in self._values:
            return self._values[argument]
        only_shape = operation(node) in (*_FACTORIES, *_SIZES) and isinstance(argument.meta.get(VALUE), Tensor)
        return _blank(argument.meta[VALUE]) if only_shape else self[argument]


def _blank(value: Any) -> Any:
    """A real tensor of the shape and type of a fake one."""
    return torch.zeros(value.shape, dtype=value.dtype) if isinstance(value, FakeTensor) else value
