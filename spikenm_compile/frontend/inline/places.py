"""Which time step each node of an unrolled loop belongs to, and which node of the step before has the same place there.

A value belongs to the latest step whose input it depends on: x[t], what layers make of it, and what neurons make of
that. So `beta * v` belongs to the step before, as long as nothing of this step was added. Where the input is the same
at each step, the calls of a layer count the steps, or the number of times that the input has entered a sum.
"""

from __future__ import annotations

import operator
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.utils import _pytree as pytree

from spikenm_compile.frontend.inline.elementwise import is_elementwise, operation, selected_step
from spikenm_compile.frontend.inline.evaluate import depends_on_data
from spikenm_compile.frontend.proxy import VALUE
from spikenm_compile.frontend.recording import AutogradFunction, StateCall


class Places:
    """Steps and places of the nodes of a captured graph."""

    def __init__(self, graph_module: GraphModule) -> None:
        self.graph_module = graph_module
        self.nodes = [n for n in graph_module.graph.nodes if n.op != "output"]
        self.elementwise = {n for n in self.nodes if is_elementwise(graph_module, n)}
        self.varies: dict[Node, bool] = {}
        for node in self.nodes:
            self.varies[node] = depends_on_data(node, self.varies)
        self.step: dict[Node, int] = {}
        """Of each node that depends on time."""
        self._find_steps()
        self.num_steps = 1 + max(self.step.values(), default=0)
        self._is_folded: set[Node] = set()
        self.before: dict[Node, Node] = {}
        """Node of step t >= 1 -> the one in its place at step t - 1."""
        for t in range(1, self.num_steps):
            self._find_counterparts(t)

    def nodes_of(self, t: int) -> list[Node]:
        """Nodes of step t, in order."""
        return [n for n in self.nodes if self.step.get(n) == t]

    def at(self, node: Node, t: int) -> Node | None:
        """Node in the place of `node`, a node of the last step or without time, at step t."""
        if node not in self.step:
            return node
        found: Node | None = node
        for _ in range(self.num_steps - 1 - t):
            found = self.before.get(found) if found is not None else None
        return found

    def _find_steps(self) -> None:
        keys = self._timeless_keys()
        total, met = Counter(k for n, k in keys.items() if self._is_counted(n)), Counter[Any]()
        for node in self.nodes:
            self._take_steps(node, [])
            if node not in self.step and self._is_counted(node) and total[keys[node]] > 1:
                self.step[node] = met[keys[node]]
                met[keys[node]] += 1
        entries = self._entries()
        repeated = {key for counts in entries.values() for key, count in counts.items() if count > 1}
        for node in self.nodes:
            self._take_steps(node, [c - 1 for key, c in entries[node].items() if key in repeated])

    def _take_steps(self, node: Node, more: list[int]) -> None:
        """The step that a node selects, or else the latest one of its arguments and of `more`."""
        if not self.varies[node] or not isinstance(node.meta.get(VALUE), Tensor | tuple | list | None):
            return
        found = selected_step(node)
        if found is not None and self.varies[found[0]] and found[0] not in self.elementwise:
            source, dim, index = found
            self.step[node] = index % int(source.meta[VALUE].shape[dim]) if VALUE in source.meta else index
            return
        steps = [*more, *(self.step[n] for n in node.all_input_nodes if n in self.step)]
        if steps:
            self.step[node] = max(steps)

    def _is_counted(self, node: Node) -> bool:
        return self.varies[node] and (node.op == "call_module" or node in self.elementwise)

    def _timeless_keys(self) -> dict[Node, Any]:
        """Equal for nodes that compute the same from the same."""
        keys: dict[Node, Any] = {}
        numbers: dict[Any, int] = {}
        for node in self.nodes:
            key = self._key(node, lambda n: keys[n])
            keys[node] = numbers.setdefault(key, len(numbers))
        return keys

    def _entries(self) -> dict[Node, Counter[Any]]:
        """How often each input without time has entered what a node is made of, by kind of operation."""
        entries: dict[Node, Counter[Any]] = {}
        for node in self.nodes:
            counts = Counter[Any]()
            if node in self.elementwise and self.varies[node]:
                for argument in node.all_input_nodes:
                    counts |= entries[argument]
                for argument in node.all_input_nodes:
                    is_input = self.varies[argument] and argument not in self.elementwise
                    counts[(operation(node), argument)] += is_input and argument not in self.step
            entries[node] = counts
        return entries

    def _key(self, node: Node, name: Callable[[Node], Any]) -> Any:
        """What a node computes, given names for its arguments; never equal for calls that set states."""
        if node.op == "placeholder" or isinstance(self._module(node), StateCall):
            return node
        leaves, spec = pytree.tree_flatten((node.args, node.kwargs))
        return *self._kind(node), str(spec), tuple(name(a) if isinstance(a, Node) else _plain(a) for a in leaves)

    def _kind(self, node: Node) -> tuple[Any, ...]:
        module = self._module(node)
        if isinstance(module, AutogradFunction):
            return node.op, module.function
        if isinstance(module, nn.Dropout):  # a call of F.dropout is a module of its own
            return node.op, nn.Dropout, module.p
        return node.op, node.target

    def _module(self, node: Node) -> nn.Module | None:
        return self.graph_module.get_submodule(str(node.target)) if node.op == "call_module" else None

    def _constant(self, node: Node) -> Any:
        """Equal for constants that are computed alike; a tensor whose shape they take counts by that."""
        if self.varies[node]:
            value = node.meta.get(VALUE)
            return tuple(value.shape) if isinstance(value, Tensor) else node
        if node.op == "get_attr" and str(node.target).startswith("_tensor_constant"):  # torch.zeros(1) made in a step
            value = operator.attrgetter(str(node.target))(self.graph_module)
            return tuple(value.shape), tuple(value.flatten().tolist())
        return self._key(node, self._constant)

    def _find_counterparts(self, t: int) -> None:
        earlier: dict[Any, list[Node]] = defaultdict(list)
        for node in self.nodes_of(t - 1):
            earlier[self._kind(node)].append(node)
        met = Counter[tuple[Node, ...]]()
        for node in self.nodes_of(t):
            same = tuple(n for n in earlier[self._kind(node)] if self._is_before(n, node, t))
            rank, met[same] = met[same], met[same] + 1
            if rank < len(same):
                self.before[node] = same[rank]
            elif t == 1 and not same and (found := self._folded(node)) is not None:
                self.before[node] = found
                self._is_folded.add(node)

    def _is_before(self, candidate: Node, node: Node, t: int) -> bool:
        """Whether `candidate` computes at step t - 1 what `node` computes at t."""
        found, earlier = selected_step(node), selected_step(candidate)
        if found is not None and earlier is not None and found[0] not in self.elementwise:
            return found[:2] == earlier[:2]
        leaves, spec = pytree.tree_flatten((node.args, node.kwargs))
        others, other_spec = pytree.tree_flatten((candidate.args, candidate.kwargs))
        return spec == other_spec and all(self._is_leaf_before(b, a, t) for a, b in zip(leaves, others, strict=True))

    def _is_leaf_before(self, earlier: Any, leaf: Any, t: int) -> bool:
        if not isinstance(leaf, Node):
            return not isinstance(earlier, Node) and bool(_plain(leaf) == _plain(earlier))
        if leaf not in self.step:
            is_same = isinstance(earlier, Node) and not self.varies[leaf] and not self.varies[earlier]
            return earlier is leaf or (is_same and self._constant(leaf) == self._constant(earlier))
        if t == 1 and self.step[leaf] == 0:  # a state, that has its first value before step 0
            return not isinstance(earlier, Node) or earlier not in self.step
        return self.before.get(leaf) is earlier

    def _folded(self, node: Node) -> Node | None:
        """At the first step there is no state yet: `beta * v + x` may be x alone."""
        if node not in self.elementwise:
            return None
        now = {n for n in node.all_input_nodes if self.step.get(n) == 1}
        has_state = any(self.step.get(n) == 0 or n in self._is_folded for n in node.all_input_nodes)
        return self.before.get(now.pop()) if len(now) == 1 and has_state else None


def _plain(value: Any) -> Any:
    """A constant argument as something that can be compared."""
    return str(value) if isinstance(value, slice | torch.dtype | torch.device) else value
