"""The nodes of one neuron at the last step: what it computes there, from which inputs and from which states.

Given:   q = mul(v_1, 0.5)   h = add(q, conv)   s = gt(h, 1)   v = where(s, 0, h)      v_1: v of the step before
Region:  decays q; updates h, s, v; states v; inputs conv

`decays` are what a loop computes from the states of the step before, before it adds its input: after the last step they
are not computed any more, so that they are those of the step before the last.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NoReturn

from torch import Tensor
from torch.fx import Node

from spikenm_compile.errors import CaptureError
from spikenm_compile.frontend.inline.elementwise import has_known_type, is_cast, is_hard, is_sum, operation
from spikenm_compile.frontend.inline.places import Places
from spikenm_compile.frontend.location import LOCATION
from spikenm_compile.frontend.proxy import VALUE

WAY_OUT = "write the neuron as a module and call spikenm_compile.register_neuron for it"


@dataclass(frozen=True)
class Region:
    """One neuron. All nodes in graph order."""

    decays: tuple[Node, ...]
    """Nodes of the step before the last."""
    updates: tuple[Node, ...]
    """Nodes of the last step."""
    states: tuple[tuple[Node, Node], ...]
    """(node of the step before, node in the same place at the last step) of each state."""
    inputs: tuple[Node, ...]
    """Nodes of the last step, or without time."""

    def is_plain_sum(self) -> bool:
        """Whether it is a sum over time, or a maximum, of which readouts are made."""
        return not self.decays and len(self.updates) == 1 and is_sum(self.updates[0]) and len(self.states) == 1


class RegionFinder:
    """Collects the region of a node.

    Args:
        places: steps and places of the captured graph.
    """

    def __init__(self, places: Places) -> None:
        self.places = places
        self.last = places.num_steps - 1
        self._after = _latest_after(places)
        self._carried: dict[Node, bool] = {}
        self._clear()

    def _clear(self) -> None:
        self._decays: set[Node] = set()
        self._updates: set[Node] = set()
        self._inputs: set[Node] = set()
        self._states: dict[Node, Node] = {}

    def find(self, sinks: Iterable[Node]) -> Region:
        """The neuron that computes these nodes of the last step.

        Raises:
            CaptureError: it takes more from the steps before than its states.
        """
        self._clear()
        for sink in sinks:
            self._update(sink)
        self._add_more_spikes()
        self._add_scaling_of_input()
        for node in (*self._decays, *self._updates):
            if not has_known_type(node):
                _refuse(node, f"computes in {node.meta[VALUE].dtype}", "float32 is supported; convert it with float()")
        return Region(
            tuple(sorted(self._decays)),
            tuple(sorted(self._updates)),
            tuple(sorted(self._states.items())),
            tuple(sorted(self._inputs)),
        )

    def is_carried(self, node: Node) -> bool:
        """Whether a node of the last step depends, element by element, on a state."""
        if node not in self._carried:
            places = self.places
            arguments = [n for n in node.all_input_nodes if n in places.step]
            self._carried[node] = node in places.elementwise and any(
                (places.step[n] < self.last and n in places.elementwise) or self.is_carried(n) for n in arguments
            )
        return self._carried[node]

    def takes_state(self, node: Node) -> bool:
        """Whether a node of the last step is computed from a node of an earlier one."""
        places = self.places
        return self.is_carried(node) and any(places.step.get(n, self.last) < self.last for n in node.all_input_nodes)

    def _update(self, node: Node) -> None:
        if node in self._updates:
            return
        self._updates.add(node)
        for argument in node.all_input_nodes:
            if self.places.varies[argument]:
                self._argument(node, argument)

    def _argument(self, node: Node, argument: Node) -> None:
        step = self.places.step.get(argument)
        if step is not None and step < self.last:
            self._earlier(node, argument)
        elif self.is_carried(argument):
            self._update(argument)
        else:
            self._inputs.add(argument)

    def _earlier(self, node: Node, argument: Node) -> None:
        """A value of the step before: a state, or what is computed from states only."""
        if self.places.step[argument] != self.last - 1:
            found = "uses a value of more than one step before, or the steps differ there"
            _refuse(node, found, "states of the step before, and steps that are copies of one another, are supported")
        after = self._after.get(argument)
        if after is not None and self.is_carried(after):
            self._states[argument] = after
            self._update(after)
        elif argument not in self.places.elementwise:
            what = f"uses '{argument.name}' of the step before, which is no state of it"
            _refuse(node, what, "neurons without recurrent connections are supported")
        elif argument not in self._decays:
            self._decays.add(argument)
            for deeper in argument.all_input_nodes:
                if deeper in self.places.step:
                    self._earlier(argument, deeper)
                elif self.places.varies[deeper]:
                    self._inputs.add(deeper)

    def _add_more_spikes(self) -> None:
        """What else fires on these values alone, and spikes as numbers."""
        for node in self.places.nodes_of(self.last):
            if node in self._updates or node not in self.places.elementwise:
                continue
            fires = is_hard(self.places.graph_module, node)
            if fires and self._is_determined(node):
                self._update(node)
            elif is_cast(node) and node.args[0] in self._updates:
                self._updates.add(node)

    def _is_determined(self, node: Node) -> bool:
        """Whether a node is computed from nodes of the region and constants only."""
        if node in self._updates or not self.places.varies[node]:
            return True
        is_now = self.places.step.get(node) == self.last and node in self.places.elementwise
        return is_now and self.is_carried(node) and all(self._is_determined(n) for n in node.all_input_nodes)

    def _add_scaling_of_input(self) -> None:
        """Arithmetic on one input alone, such as x / tau, is the neuron's own; where several meet, it stays outside."""
        roots = {root for node in self._inputs for root in self._roots(node)}
        if len(roots) == 1 or len(self._inputs) == 1:
            while (node := next((n for n in self._inputs if self._is_scaling(n)), None)) is not None:
                self._inputs.remove(node)
                self._updates.add(node)
                self._inputs.update(n for n in node.all_input_nodes if self.places.varies[n])

    def _is_scaling(self, node: Node) -> bool:
        varying = [n for n in node.all_input_nodes if self.places.varies[n]]
        is_now = self.places.step.get(node) == self.last and node in self.places.elementwise
        has_size = any(not isinstance(n.meta.get(VALUE), Tensor) for n in node.all_input_nodes)
        return is_now and len(varying) == 1 and operation(node) != "" and not has_size

    def _roots(self, node: Node) -> set[Node]:
        if not self._is_scaling(node):
            return {node}
        return {root for n in node.all_input_nodes if self.places.varies[n] for root in self._roots(n)}


def _latest_after(places: Places) -> dict[Node, Node]:
    """Node of the step before the last -> the last one that takes its place at the last step."""
    return {places.before[n]: n for n in places.nodes_of(places.num_steps - 1) if n in places.before}


def _refuse(node: Node, found: str, supported: str) -> NoReturn:
    raise CaptureError(f"'{node.name}'{line_of(node)} {found}; {supported}; {WAY_OUT}")


def line_of(node: Node) -> str:
    """Where in the user's code a node was made."""
    location = node.meta.get(LOCATION)
    return f" in {location}" if location is not None else ""
