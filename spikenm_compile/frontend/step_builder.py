"""Builds a step graph. Equal calls give the same node: this alone makes T unrolled copies of a step one."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import Graph, GraphModule, Node
from torch.utils import _pytree as pytree

from spikenm_compile.errors import CaptureError
from spikenm_compile.frontend.values import Reduce
from spikenm_compile.graph import (
    INIT,
    LAYER,
    PER_STEP,
    REGION,
    ROLE,
    SHAPE,
    Region,
    Role,
    add_module,
    clean_up,
    output_node,
    verify_graph,
)
from spikenm_compile.neurons import Neuron
from spikenm_compile.ops import NeuronStep

_ACCUMULATE: dict[Reduce, tuple[Callable[..., Any], float]] = {
    Reduce.SUM: (operator.add, 0.0),
    Reduce.MAX: (torch.maximum, -float("inf")),
}


class StepBuilder:
    """A step graph that grows node by node.

    Args:
        example: one step of the input, [B, ...]; only its shape and dtype are used.
        per_step: whether the input has another value at each step.
    """

    def __init__(self, example: Tensor, *, per_step: bool) -> None:
        self.graph_module = GraphModule(nn.Module(), Graph(), class_name="StepGraph")
        self.mode = FakeTensorMode(allow_non_fake_inputs=True)
        self.batch = example.shape[0]
        self._values: dict[Node, Any] = {}
        self._known: dict[Any, Node] = {}
        self._names: dict[str, str] = {}
        self._next: dict[Node, Node] = {}
        self.input = self._placeholder("x", Role.INPUT)
        self.input.meta[PER_STEP] = per_step
        self._define(self.input, self.mode.from_tensor(example.detach(), static_shapes=True))
        self.num_steps = self._placeholder("num_steps", Role.NUM_STEPS)

    def shape(self, node: Node) -> tuple[int, ...]:
        """[B, ...] of one step."""
        return tuple(self._values[node].shape)

    def find(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Node | None:
        """The node of an equal call, if there is one."""
        return self._known.get(_key(target, args, kwargs))

    def call(self, target: Callable[..., Any], args: tuple[Any, ...], region: Region = Region.STEP) -> Node:
        """A function call."""
        known = self.find(target, args, {})
        if known is not None:
            return known
        node = self.graph_module.graph.call_function(target, args)
        return self._finish(node, _key(target, args, {}), target, args, region)

    def layer(self, name: str, module: nn.Module, node: Node, region: Region = Region.STEP) -> Node:
        """A call of a plain layer with the user's name `name`."""
        known = self.find(name, (node,), {})
        if known is not None:
            return known
        if name not in self._names:
            self._names[name] = add_module(self.graph_module, name, module)
        call = self.graph_module.graph.call_module(self._names[name], (node,))
        call.meta[LAYER] = name
        return self._finish(call, _key(name, (node,), {}), module, (node,), region)

    def state(self, name: str, shape: tuple[int, ...], first: float) -> Node:
        """A state [B, ...] of that shape; `update` says what its next value is."""
        node = self._placeholder(name, Role.STATE)
        node.meta[INIT] = first
        with self.mode:
            self._define(node, torch.zeros(shape))
        return node

    def update(self, state: Node, value: Node) -> None:
        """The node whose value a state has at the next step."""
        if self.shape(state) != self.shape(value):
            raise CaptureError(
                f"'{value.name}' of shape {list(self.shape(value))} is the next value of '{state.name}' of shape "
                f"{list(self.shape(state))}; a state keeps its shape; make both alike"
            )
        self._next[state] = value

    def neuron(self, name: str, neuron: Neuron, inputs: tuple[Node, ...]) -> Node:
        """Output of a layer of neurons fed with a node for each input; makes its states, `<layer>_<state>`."""
        step = NeuronStep(neuron)
        step.layer = name
        shape = self.shape(inputs[0])
        states = [self.state(f"{name}_{state}", shape, first) for state, first in neuron.states.items()]
        call = self.graph_module.graph.call_module(add_module(self.graph_module, name, step), (*inputs, *states))
        call.meta[LAYER] = name
        self._finish(call, object(), step, (*inputs, *states), Region.STEP)
        output = self.call(operator.getitem, (call, 0))
        self._next |= {state: self.call(operator.getitem, (call, i)) for i, state in enumerate(states, start=1)}
        return output

    def accumulate(self, reduce: Reduce, node: Node) -> Node:
        """Running reduction of `node` over the steps: a state, and its next value in the step region."""
        key = ("accumulate", reduce, node)
        if key not in self._known:
            function, init = _ACCUMULATE[reduce]
            state = self.state(f"{reduce.value}_{node.name}", self.shape(node), init)
            self._known[key] = self._next[state] = self.call(function, (state, node))
        return self._known[key]

    def finish(self, result: Node, num_steps: int) -> GraphModule:
        """The graph that returns `result`."""
        self.graph_module.graph.output((result, tuple(self._next.values())))
        self._order_states()
        self.graph_module.meta["num_steps"] = num_steps
        self.graph_module.eval()
        clean_up(self.graph_module)
        verify_graph(self.graph_module)
        return self.graph_module

    def _order_states(self) -> None:
        """Next values in the order of the placeholders, which is that of the arguments."""
        states = [n for n in self.graph_module.graph.nodes if n.op == "placeholder" and n.meta[ROLE] is Role.STATE]
        output = output_node(self.graph_module)
        output.args = ((output.args[0][0], tuple(self._next[s] for s in states)),)  # type: ignore[index]

    def _placeholder(self, name: str, role: Role) -> Node:
        graph = self.graph_module.graph
        existing = [n for n in graph.nodes if n.op == "placeholder"]
        with graph.inserting_after(existing[-1]) if existing else graph.inserting_before():
            node = graph.placeholder(_identifier(name))
        node.meta[ROLE] = role
        return node

    def _finish(
        self, node: Node, key: Any, function: Callable[..., Any], args: tuple[Any, ...], region: Region
    ) -> Node:
        """Annotate a new node; its shape comes from running it on fake tensors."""
        node.meta[REGION] = region
        values = pytree.tree_map(lambda a: self._values.get(a, 1) if isinstance(a, Node) else a, args)
        try:
            with self.mode, torch.no_grad():
                value = function(*values)
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            reason = str(error).split("\n")[0].rstrip(".")
            raise CaptureError(
                f"'{node.meta.get(LAYER, node.name)}' does not accept its input: {reason}; the example must fit the "
                "model; check example_inputs"
            ) from error
        self._define(node, value)
        self._known[key] = node
        return node

    def _define(self, node: Node, value: Any) -> None:
        """Note the value of a node; the shape of the output stands for all that a neuron step gives."""
        self._values[node] = value
        first: Tensor = value[0] if isinstance(value, tuple) else value
        if first.dim() == 0 or first.shape[0] != self.batch:
            raise CaptureError(
                f"'{node.name}' has shape {list(first.shape)} where the batch of {self.batch} was expected first; "
                "each sample must be computed by itself; keep the batch dimension in front"
            )
        node.meta[SHAPE] = tuple(first.shape[1:])


def _identifier(name: str) -> str:
    """A name for an argument: layers of a Sequential are named by number."""
    plain = name.replace(".", "_")
    return f"_{plain}" if plain[0].isdigit() else plain


def _key(target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return target, args, tuple(sorted(kwargs.items()))
