"""Put calls of one neuron in the place of its nodes, step by step."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass

from torch.fx import GraphModule, Node

from spikenm_compile.errors import CaptureError
from spikenm_compile.frontend.inline.elementwise import is_elementwise, operation, selected_step
from spikenm_compile.frontend.inline.evaluate import depends_on_data
from spikenm_compile.frontend.inline.leaf import InlineNeuron
from spikenm_compile.frontend.inline.places import Places
from spikenm_compile.frontend.inline.region import WAY_OUT, Region, line_of
from spikenm_compile.frontend.proxy import VALUE
from spikenm_compile.graph import add_module, output_node
from spikenm_compile.neurons import Neuron


@dataclass(frozen=True)
class Calls:
    """What is put in the place of a region."""

    region: Region
    outside: tuple[Node, ...]
    """Nodes of the last step that others use."""
    neuron: Neuron
    names: Mapping[Node, str]
    """Of these nodes and of the states."""


class Uses:
    """Who uses the nodes of a region.

    Args:
        places: steps and places of the captured graph.
    """

    def __init__(self, places: Places) -> None:
        self.places = places
        self._live = _live(places.graph_module)

    def inside(self, region: Region) -> set[Node]:
        """Nodes of a neuron at all steps."""
        inputs = {n for node in region.inputs for n in self._places_of(node)}
        nodes = (*region.decays, *region.updates)
        return {n for node in nodes for n in self._places_of(node)} - inputs

    def outside(self, region: Region) -> tuple[Node, ...]:
        """Updates whose value at some step is used by other nodes, in order.

        Raises:
            CaptureError: a decayed state is used outside of the neuron.
        """
        inside = self.inside(region)
        for node in region.decays:
            if any(self.users(n, inside) for n in self._places_of(node) if n in inside):
                raise CaptureError(
                    f"'{node.name}'{line_of(node)}, a state on its way to the next step, is used outside of its "
                    f"neuron; states after a step are supported; {WAY_OUT}"
                )
        return tuple(u for u in region.updates if any(self.users(n, inside) for n in self._places_of(u) if n in inside))

    def only_at_the_end(self, region: Region) -> bool:
        """Whether nobody but the neuron uses any of its values before the last step."""
        inside = self.inside(region)
        return not any(self.users(n, inside) for u in region.updates for n in self._places_of(u)[1:] if n in inside)

    def users(self, node: Node, inside: set[Node]) -> list[Node]:
        """Users that matter to the result and are no part of the neuron."""
        return [u for u in node.users if u in self._live and u not in inside]

    def _places_of(self, node: Node) -> list[Node]:
        """The node, and those in its place at all earlier steps."""
        found = [node]
        while found[-1] in self.places.before:
            found.append(self.places.before[found[-1]])
        return found


def replace(places: Places, calls: Calls) -> None:
    """Rewrite the graph in place."""
    graph_module, uses = places.graph_module, Uses(places)
    inside = uses.inside(calls.region)
    returns = tuple(dict.fromkeys(calls.names[n] for n in calls.outside))
    name = add_module(graph_module, _name(graph_module, calls), InlineNeuron(calls.neuron, returns))
    order = {node: i for i, node in enumerate(graph_module.graph.nodes)}
    previous: Node | None = None
    for t in range(places.num_steps):
        inputs = tuple(node for i in calls.region.inputs if (node := places.at(i, t)) is not None)
        behind = max((*([] if previous is None else [previous]), *inputs), key=lambda node: order[node])
        call = _call(graph_module, behind, name, inputs, len(returns))
        order[call] = order[behind]
        previous = call
        for node in calls.outside:
            at_t = places.at(node, t)
            if at_t in inside and at_t is not None:
                value = _returned(call, returns, calls.names[node])
                value.meta[VALUE] = at_t.meta[VALUE]
                for user in [u for u in at_t.users if u not in inside]:
                    user.replace_input_with(at_t, value)
    for node in reversed(list(graph_module.graph.nodes)):  # dead code of other neurons tells what their states are
        if node in inside and not node.users:
            graph_module.graph.erase_node(node)


def remove_unused(graph_module: GraphModule) -> None:
    """Erase what nobody uses any more and has no effect."""
    live = _live(graph_module)
    for node in reversed(list(graph_module.graph.nodes)):
        if node not in live:
            graph_module.graph.erase_node(node)
    graph_module.delete_all_unused_submodules()
    graph_module.graph.lint()
    graph_module.recompile()


def _call(graph_module: GraphModule, behind: Node, name: str, inputs: tuple[Node, ...], num_returned: int) -> Node:
    with graph_module.graph.inserting_after(behind):
        call = graph_module.graph.call_module(name, inputs)
    value = inputs[0].meta[VALUE]
    call.meta[VALUE] = value if num_returned == 1 else (value,) * num_returned
    return call


def _returned(call: Node, returns: tuple[str, ...], name: str) -> Node:
    if len(returns) == 1:
        return call
    index = returns.index(name)
    for user in call.users:
        if user.target is operator.getitem and user.args == (call, index):
            return user
    with call.graph.inserting_after(call):
        return call.graph.call_function(operator.getitem, (call, index))


def _name(graph_module: GraphModule, calls: Calls) -> str:
    """That of the module in whose forward the neuron stands, if it has no layers."""
    stack = calls.region.updates[-1].meta.get("nn_module_stack", {})
    paths = [path for path, _ in stack.values() if path]
    taken = {str(n.target).replace(".", "_") for n in graph_module.graph.nodes if n.op == "call_module"}
    path = paths[-1].replace(".", "_") if paths else ""
    if path and path not in taken and not any(t.startswith(f"{path}_") for t in taken):
        return path
    number = sum(isinstance(m, InlineNeuron) for m in graph_module.modules())
    return f"{path}_neuron_{number}" if path else f"neuron_{number}"


def _live(graph_module: GraphModule) -> set[Node]:
    """Nodes that the result depends on, or that may have an effect."""
    varies: dict[Node, bool] = {}
    for node in graph_module.graph.nodes:
        if node.op != "output":
            varies[node] = depends_on_data(node, varies)
    output = output_node(graph_module)
    live: set[Node] = set()
    waiting = [output, *(n for n in varies if _has_effect(graph_module, n, varies))]
    while waiting:
        node = waiting.pop()
        if node not in live:
            live.add(node)
            waiting.extend(node.all_input_nodes)
    return live


def _has_effect(graph_module: GraphModule, node: Node, varies: Mapping[Node, bool]) -> bool:
    if node.op == "placeholder":
        return True
    if node.op == "get_attr" or is_elementwise(graph_module, node) or not varies[node]:
        return False
    return selected_step(node) is None and operation(node) not in ("stack", "getitem", "unsqueeze", "flatten")
