"""A lowered graph as a JSON-able description and named tensors, and back: how an artifact carries its own reference.

    description   {"format", "num_steps"?, "modules": {target: {...}}, "nodes": [{...}], "output": {...}}
    tensors       "<module>.weight" int8, "<module>.scale" and "<module>.bias" float32, of each IntConv2d
                  "<module>.<constant>" float32, of each NeuronStep with constants per channel

`<module>` is the qualified name (`conv1`, or `lif1.conv` and `lif1.neuron` inside of an IntConvNeuron). Only the closed
lists of modules, functions and annotations below are written or read; names are checked before fx makes code of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy.typing as npt
from torch import nn
from torch.fx import Graph, GraphModule, Node

from spikenm_compile.errors import ArtifactError, PassError
from spikenm_compile.graph import (
    ALLOWED_FUNCTIONS,
    INIT,
    LAYER,
    LEVELS,
    PER_STEP,
    REGION,
    ROLE,
    SHAPE,
    Region,
    Role,
    next_states,
    placeholders,
    result,
    verify_graph,
)
from spikenm_compile.lowering.serialize_modules import decode_module, encode_module
from spikenm_compile.lowering.serialize_records import Object, Record, encode_number
from spikenm_compile.lowering.serialize_values import Arrays, decode_levels, encode_levels

FORMAT = 2
"""Version of the description."""

_FUNCTIONS: dict[str, Callable[..., Any]] = {name: function for function, name in ALLOWED_FUNCTIONS.items()}

_ENCODE: dict[str, Callable[[Any], object]] = {
    REGION: lambda region: region.value,
    SHAPE: list,
    ROLE: lambda role: role.value,
    PER_STEP: bool,
    INIT: encode_number,
    LEVELS: encode_levels,
    LAYER: str,
}
"""Node annotation -> how it is written."""

_DECODE: dict[str, Callable[[Record], object]] = {
    REGION: lambda record: _member(Region, record, REGION),
    SHAPE: lambda record: record.sizes(SHAPE),
    ROLE: lambda record: _member(Role, record, ROLE),
    PER_STEP: lambda record: record.get(PER_STEP, bool),
    INIT: lambda record: record.number(INIT),
    LEVELS: lambda record: decode_levels(record.record(LEVELS)),
    LAYER: lambda record: record.get(LAYER, str),
}
"""Node annotation -> how it is read."""


def to_dict(lowered: GraphModule) -> tuple[Object, dict[str, npt.NDArray[Any]]]:
    """Describe a lowered graph.

    Returns:
        The description, which `json` can write, and the tensors by name; they share memory with the graph.

    Raises:
        PassError: a module, function or argument that a lowered graph does not have.
    """
    verify_graph(lowered)
    tensors: dict[str, npt.NDArray[Any]] = {}
    targets = dict.fromkeys(str(node.target) for node in lowered.graph.nodes if node.op == "call_module")
    description: Object = {
        "format": FORMAT,
        "modules": {target: encode_module(target, lowered.get_submodule(target), tensors) for target in targets},
        "nodes": [_encode_node(node) for node in lowered.graph.nodes if node.op != "output"],
        "output": {"value": result(lowered).name, "states": [node.name for node in next_states(lowered).values()]},
    }
    if "num_steps" in lowered.meta:
        description["num_steps"] = lowered.meta["num_steps"]
    return description, tensors


def from_dict(description: Mapping[str, object], tensors: Arrays) -> GraphModule:
    """Rebuild the lowered graph of `to_dict`; the tensors are copied.

    Raises:
        ArtifactError: anything in the description or the tensors that does not make a legal graph.
    """
    record = Record.of(description, "the description")
    if record.get("format", int) != FORMAT:
        raise record.wrong("format", f"{FORMAT}, the only one that this version reads")
    modules = dict(_decode_modules(record.record("modules"), tensors))
    graph, nodes = Graph(), dict[str, Node]()
    for i, fields in enumerate(record.get("nodes", list)):
        node = _decode_node(graph, Record.of(fields, f"node {i}"), nodes, modules)
        nodes[node.name] = node
    _decode_output(graph, record.record("output"), nodes)
    return _graph_module(modules, graph, record)


def _encode_node(node: Node) -> Object:
    annotations = {key: encode(node.meta[key]) for key, encode in _ENCODE.items() if key in node.meta}
    if node.op == "placeholder":
        return {"name": node.name, "op": "placeholder", **annotations}
    target = str(node.target) if node.op == "call_module" else ALLOWED_FUNCTIONS[node.target]  # type: ignore[index]
    arguments = [_encode_argument(node, argument) for argument in node.args]
    if node.kwargs:
        raise PassError(f"node '{node.name}' has keyword arguments {sorted(node.kwargs)}; give them by position")
    return {"name": node.name, "op": node.op, "target": target, "args": arguments, **annotations}


def _encode_argument(node: Node, argument: object) -> object:
    if isinstance(argument, Node):
        return {"node": argument.name}
    if isinstance(argument, float):
        return {"number": encode_number(argument)}
    if type(argument) is int:
        return argument
    raise PassError(
        f"node '{node.name}' has argument {argument!r}; a stored graph holds nodes and numbers as arguments"
    )


def _decode_modules(record: Record, tensors: Arrays) -> Iterator[tuple[str, nn.Module]]:
    for target in record.fields:
        if not re.fullmatch(r"\w+(\.\w+)*", target, re.ASCII):
            raise ArtifactError(f"module {target!r} of the stored graph has no legal name; build the artifact again")
        yield target, decode_module(target, Record.of(record.fields[target], f"module '{target}'"), tensors)


def _decode_node(graph: Graph, record: Record, nodes: dict[str, Node], modules: dict[str, nn.Module]) -> Node:
    name, op = record.get("name", str), record.get("op", str)
    if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) or name in nodes:
        raise record.wrong("name", "an identifier that no other node has")
    if op == "placeholder":
        node = graph.create_node(op, name, name=name)
    else:
        arguments = tuple(_decode_argument(record, argument, nodes) for argument in record.get("args", list))
        node = graph.create_node(op, _target(record, op, modules), arguments, name=name)
    if node.name != name:  # fx renames keywords and the names that its generated code uses
        raise record.wrong("name", "a name that Python does not reserve")
    node.meta.update({key: decode(record) for key, decode in _DECODE.items() if key in record.fields})
    _check_annotations(node, record)
    return node


def _target(record: Record, op: str, modules: dict[str, nn.Module]) -> str | Callable[..., Any]:
    """What a node calls."""
    target = record.get("target", str)
    if op == "call_module" and target in modules:
        return target
    if op == "call_function" and target in _FUNCTIONS:
        return _FUNCTIONS[target]
    if op not in ("call_module", "call_function"):
        raise record.wrong("op", "placeholder, call_module or call_function")
    raise record.wrong("target", "a module of the graph or one of " + ", ".join(_FUNCTIONS))


def _decode_argument(record: Record, argument: object, nodes: dict[str, Node]) -> Node | int | float:
    if type(argument) is int:
        return argument
    reference = Record.of(argument, f"an argument of {record.where}")
    if reference.has("number"):
        return reference.number("number")
    name = reference.get("node", str)
    if name not in nodes:
        raise reference.wrong("node", "an earlier node")
    return nodes[name]


def _check_annotations(node: Node, record: Record) -> None:
    """Whether the node has what each reader of a step graph relies on."""
    of_role = {Role.INPUT: [SHAPE, PER_STEP], Role.NUM_STEPS: [], Role.STATE: [SHAPE, INIT], None: [ROLE]}
    needed = of_role[node.meta.get(ROLE)] if node.op == "placeholder" else [REGION, SHAPE]
    for key in needed:
        if key not in node.meta:
            raise record.wrong(key, "given")


def _decode_output(graph: Graph, record: Record, nodes: dict[str, Node]) -> None:
    names = [record.get("value", str), *record.get("states", list)]
    unknown = [name for name in names if not isinstance(name, str) or name not in nodes]
    if unknown:
        raise ArtifactError(f"the stored graph returns {unknown}, which it does not compute; build the artifact again")
    value, *states = (nodes[name] for name in names)
    graph.output((value, tuple(states)))


def _graph_module(modules: dict[str, nn.Module], graph: Graph, record: Record) -> GraphModule:
    """The checked module around a graph."""
    graph_module = GraphModule(modules, graph)
    if "num_steps" in record.fields:
        graph_module.meta["num_steps"] = record.get("num_steps", int) if record.has("num_steps") else None
    inputs, states = placeholders(graph_module, Role.INPUT), placeholders(graph_module, Role.STATE)
    num_next = len(record.record("output").get("states", list))
    if len(inputs) != 1 or len(states) != num_next:
        raise ArtifactError(
            f"the stored graph has {len(inputs)} inputs, {len(states)} states and {num_next} next states; it needs one "
            "input and as many next states as states; build the artifact again"
        )
    try:
        verify_graph(graph_module)
    except PassError as error:
        raise ArtifactError(f"the stored graph is not legal ({error}); build the artifact again") from error
    return graph_module


def _member(kind: type[Region | Role], record: Record, key: str) -> Region | Role:
    """The member of an enumeration that a field names."""
    value = record.get(key, str)
    for member in kind:
        if member.value == value:
            return member
    raise record.wrong(key, "one of " + ", ".join(member.value for member in kind))
