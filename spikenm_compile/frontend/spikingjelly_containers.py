"""Containers of SpikingJelly 2.0 that feed the output of a neuron back to it (layer/container.py).

ElementWiseRecurrentContainer    s[t] = neuron(f(s[t-1], x[t]))                  f: arithmetic, written by the user
LinearRecurrentContainer         s[t] = neuron(layers(rc([x[t], s[t-1]])))       rc: a Linear
"""

from __future__ import annotations

import dataclasses
import operator
import re
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.fx import Node, Tracer

from spikenm_compile.errors import CaptureError
from spikenm_compile.frontend.wiring import Source, Wire, Wiring, chain
from spikenm_compile.neurons import Neuron

ELEMENT_WISE, LINEAR = "ElementWiseRecurrentContainer", "LinearRecurrentContainer"
CONTAINERS = (ELEMENT_WISE, LINEAR)
_STATE = "y"
"""The library's name for the previous output."""
_PREVIOUS, _TOTAL = "previous", "total"
"""Names in equations: the previous output, and what f gives."""
_OPERATORS: dict[Any, str] = {
    operator.add: "+",
    operator.sub: "-",
    operator.mul: "*",
    operator.truediv: "/",
    torch.add: "+",
    torch.sub: "-",
    torch.mul: "*",
    torch.div: "/",
    "add": "+",
    "sub": "-",
    "mul": "*",
    "div": "/",
}
"""What f may call -> how an equation says it."""


def inner_neuron(container: Any) -> nn.Module:
    """The module that gives the output."""
    sub_module: nn.Module = container.sub_module
    is_linear = type(container).__name__ == LINEAR
    return chain("sub_module", sub_module)[-1][1] if is_linear else sub_module


def wiring_of(container: Any) -> Wiring:
    """How the container makes the current of its neuron."""
    if type(container).__name__ == ELEMENT_WISE:
        return Wiring((Wire("x", Source.INPUT), Wire(_PREVIOUS, Source.PREVIOUS)), state=_STATE)
    layers = (("rc", container.rc), *chain("sub_module", container.sub_module)[:-1])
    return Wiring((Wire("x", Source.INPUT_AND_PREVIOUS, layers),), _STATE, container.sub_module_out_features)


def with_function(neuron: Neuron, container: Any) -> Neuron:
    """The neuron that first computes what `element_wise_function` does, from x and its previous output.

    Raises:
        CaptureError: the function is not arithmetic on its two arguments.
    """
    total = f"{_TOTAL} = {_written(container.element_wise_function)}"
    equations = (re.sub(r"\bx\b", _TOTAL, equation) for equation in neuron.equations)
    return dataclasses.replace(neuron, equations=(total, *equations), inputs=("x", _PREVIOUS))


def _written(function: Callable[..., Any]) -> str:
    """The function f(previous output, x) as an expression, in its own order of operations."""
    try:
        graph = Tracer().trace(lambda previous, x: function(previous, x))
    except Exception as error:  # the function is the user's, and may fail on what is no tensor in any way
        raise _not_arithmetic(str(error).split("\n")[0].rstrip(".")) from error
    texts: dict[Node, str] = dict(zip(graph.find_nodes(op="placeholder"), (_PREVIOUS, "x"), strict=True))
    for node in graph.nodes:
        if node.op in ("call_function", "call_method"):
            texts[node] = _operation(node, texts)
    returned = next(node for node in graph.nodes if node.op == "output").args[0]
    if not isinstance(returned, Node) or texts[returned] == "x":
        raise _not_arithmetic("it does not use the previous output")
    return texts[returned]


def _operation(node: Node, texts: dict[Node, str]) -> str:
    if node.target not in _OPERATORS or len(node.args) != 2 or node.kwargs:
        raise _not_arithmetic(f"it calls {getattr(node.target, '__name__', node.target)}")
    left, right = (texts[a] if isinstance(a, Node) else f"{a!r}" for a in node.args)
    return f"({left} {_OPERATORS[node.target]} {right})"


def _not_arithmetic(found: str) -> CaptureError:
    return CaptureError(
        f"the element_wise_function of an {ELEMENT_WISE} is no arithmetic ({found}); + - * / of its two arguments and "
        "numbers are supported; write it with these"
    )
