"""A NIR graph as a plan: nodes of nested graphs beside one another, each after the nodes that feed it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

from spikenm_compile.errors import InputError
from spikenm_compile.frontend.nir.package import kind_of

_GRAPH, _INPUT, _OUTPUT = "NIRGraph", "Input", "Output"
_SHOWN = 6
"""How many nodes of a cycle an error names."""


@dataclass(frozen=True)
class Plan:
    """Nodes in an order in which they can be computed."""

    nodes: dict[str, Any]
    """Name -> NIR node; nodes of a graph inside are `graph.node`."""
    sources: dict[str, tuple[str, ...]]
    """Name -> nodes whose outputs add up to its input."""
    input: str
    output: str


def plan(graph: Any) -> Plan:
    """Flatten and order a NIR graph.

    Raises:
        InputError: a cycle, an edge to nowhere, a node that nothing feeds, or not one input and one output.
    """
    nodes = dict(_nodes(graph, ""))
    sources: dict[str, list[str]] = {name: [] for name in nodes}
    for source, target in _edges(graph, ""):
        if source in sources[target]:
            raise InputError(
                f"the edge from '{source}' to '{target}' stands twice in the NIR graph; an edge adds its value once; "
                "remove one, or double it with a Scale"
            )
        sources[target].append(source)
    start, end = _only(graph, _INPUT), _only(graph, _OUTPUT)
    for name, found in sources.items():
        if not found and name != start:
            raise InputError(
                f"node '{name}' ({kind_of(nodes[name])}) of the NIR graph has no edge into it; each node but the input "
                "computes on others; connect it or remove it"
            )
    order = _ordered(sources)
    return Plan({n: nodes[n] for n in order}, {n: tuple(sources[n]) for n in order}, start, end)


def _nodes(graph: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, node in graph.nodes.items():
        if kind_of(node) == _GRAPH:
            yield from _nodes(node, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", node


def _edges(graph: Any, prefix: str) -> Iterator[tuple[str, str]]:
    for source, target in graph.edges:
        yield _end(graph, prefix, source, _OUTPUT), _end(graph, prefix, target, _INPUT)
    for name, node in graph.nodes.items():
        if kind_of(node) == _GRAPH:
            yield from _edges(node, f"{prefix}{name}.")


def _end(graph: Any, prefix: str, name: str, kind: str) -> str:
    """The node at which an edge ends: of a graph inside, its input or output."""
    if name not in graph.nodes:
        raise InputError(f"an edge of the NIR graph names '{prefix}{name}', which is no node of it; remove the edge")
    node = graph.nodes[name]
    if kind_of(node) != _GRAPH:
        return f"{prefix}{name}"
    return _end(node, f"{prefix}{name}.", _only(node, kind, name), kind)


def _only(graph: Any, kind: str, name: str = "") -> str:
    found = [n for n, node in graph.nodes.items() if kind_of(node) == kind]
    if len(found) != 1:
        which = f"the graph '{name}' inside the NIR graph" if name else "the NIR graph"
        raise InputError(
            f"{which} has {len(found)} {kind} nodes ({', '.join(found) or 'none'}); one input and one output are "
            "supported; concatenate the inputs, or import the parts one by one"
        )
    return str(found[0])


def _ordered(sources: dict[str, list[str]]) -> tuple[str, ...]:
    try:
        return tuple(TopologicalSorter(sources).static_order())
    except CycleError as error:
        cycle: list[str] = error.args[1]
        names = " -> ".join([*cycle[:_SHOWN], "..."] if len(cycle) > _SHOWN else cycle)
        raise InputError(
            f"the NIR graph feeds back: {names}; a step graph has no feedback between nodes; train the network without "
            "recurrent connections"
        ) from error
