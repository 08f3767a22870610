"""A region as the equations of a canonical neuron.

One equation for each value that is read more than once, that is a state or that leaves the neuron; the others stand
where they are read. Constants are numbers in the text, parameters have names.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.fx.node import map_aggregate

from spikenm_compile.equations import FUNCTIONS, MAX_LENGTH
from spikenm_compile.errors import CaptureError
from spikenm_compile.frontend.inline.elementwise import Term, is_function, number, operation, term
from spikenm_compile.frontend.inline.evaluate import Values
from spikenm_compile.frontend.inline.region import WAY_OUT, Region, line_of
from spikenm_compile.frontend.inline.spiking_function import comparison, comparison_of_two
from spikenm_compile.frontend.proxy import VALUE
from spikenm_compile.frontend.recording import AutogradFunction

LONGEST_TERM = MAX_LENGTH // 2


@dataclass(frozen=True)
class Translation:
    """Equations with a name for each node that has one."""

    inputs: tuple[str, ...]
    equations: tuple[str, ...]
    constants: Mapping[str, float | tuple[float, ...]]
    names: Mapping[Node, str]
    """Nodes that are states or leave the neuron -> name."""


class Translator:
    """Writes one region.

    Args:
        graph_module: the captured graph.
        region: the neuron.
        outside: updates that leave the neuron, in order.
        spikes: the one of them that is the output.
    """

    def __init__(self, graph_module: GraphModule, region: Region, outside: tuple[Node, ...], spikes: Node) -> None:
        self.graph_module = graph_module
        self.region = region
        self.values = Values(graph_module, {})
        self.constants: dict[str, float | tuple[float, ...]] = {}
        self.new_states = {after: _state_name(i) for i, (_, after) in enumerate(region.states)}
        extra = [n for n in outside if n is not spikes and n not in self.new_states]
        self.names = {**self.new_states, **{n: f"o{i + 1}" for i, n in enumerate(extra)}}
        self.output = self.names.setdefault(spikes, "s")
        self.inputs = tuple(f"x{i + 1}" if i else "x" for i in range(len(region.inputs)))
        self.terms: dict[Node, Term] = dict(zip(region.inputs, map(Term, self.inputs), strict=True))
        self.terms |= {old: Term(self.new_states[new]) for old, new in region.states}
        self.shape = spikes.meta[VALUE].shape

    def translate(self) -> Translation:
        """The equations.

        Raises:
            CaptureError: an operation that equations do not have.
        """
        order = [*self.region.decays, *self.region.updates]
        uses = Counter(a for n in order for a in _node_leaves(n))
        texts: list[tuple[str, str]] = []
        temporaries = (f"h{i}" if i else "h" for i in range(len(order)))
        late: list[tuple[str, str]] = []
        for i, node in enumerate(order):
            found = self._term(node)
            name = self.names.get(node)
            if name is None and (uses[node] == 1 and len(found.text) < LONGEST_TERM):
                self.terms[node] = found
                continue
            if name is not None and name in self.new_states.values() and self._is_read_later(name, order[i + 1 :]):
                state, name = name, next(temporaries)
                late.append((state, name))
            name = name or next(temporaries)
            texts.append((name, found.text))
            self.terms[node] = Term(name)
        return Translation(
            self.inputs, tuple(f"{name} = {text}" for name, text in (*texts, *late)), self.constants, self.names
        )

    def _is_read_later(self, state: str, rest: list[Node]) -> bool:
        """Whether the value of a state before the step is needed after its next value is known."""
        pending = {n for n, t in self.terms.items() if re.search(rf"\b{state}\b", t.text)}
        return any(argument in pending for node in rest for argument in node.all_input_nodes)

    def _term(self, node: Node) -> Term:
        if is_function(self.graph_module, node):
            return self._spikes(node)
        arguments = map_aggregate(node.args, self._argument)
        named = map_aggregate(dict(node.kwargs), self._argument)
        try:
            return term(node, list(arguments), dict(named))
        except (TypeError, ValueError) as error:
            raise CaptureError(
                f"operation '{operation(node)}'{line_of(node)} of a neuron is called in a way that equations do not "
                f"have ({error}); arithmetic, comparisons, where, clamp and rounding are supported; {WAY_OUT}"
            ) from error

    def _argument(self, argument: Any) -> Any:
        if isinstance(argument, Node):
            return self.terms[argument] if argument in self.terms else self._constant(argument)
        if isinstance(argument, bool) or not isinstance(argument, int | float):
            return argument
        return number(argument)

    def _constant(self, node: Node) -> Term:
        """A number, or a name for one value per channel."""
        value = self.values.constant(node)
        if not isinstance(value, Tensor):
            raise CaptureError(
                f"a neuron is computed with the size '{node.name}'{line_of(node)} of a tensor, {value} in this "
                f"example; numbers and parameters are supported, which are the same for every input; {WAY_OUT}"
            )
        per_channel = _per_channel(node, value.to(torch.float32), tuple(self.shape))
        first = per_channel[0]
        found: float | tuple[float, ...] = first if all(v == first for v in per_channel) else per_channel
        owner = next((str(n.target) for n in _sources(node)), "")
        if isinstance(found, float) and not owner:
            return number(found)
        return Term(self._constant_name(owner.rpartition(".")[2] or "c", found))

    def _constant_name(self, wanted: str, value: float | tuple[float, ...]) -> str:
        taken = {"s", *self.inputs, *self.names.values(), *FUNCTIONS}
        base = wanted if wanted not in taken and not re.fullmatch(r"[hov]\d*", wanted) else f"{wanted}_"
        name, i = base, 2
        while name in self.constants and self.constants[name] != value:
            name, i = f"{base}_{i}", i + 1
        self.constants[name] = value
        return name

    def _spikes(self, node: Node) -> Term:
        module = self.graph_module.get_submodule(str(node.target))
        assert isinstance(module, AutogradFunction)
        name = f"{module.function.__name__}{line_of(node)}"
        varying = list(dict.fromkeys(a for a in node.args if isinstance(a, Node) and a in self.terms))
        fixed = [self.values.constant(a) if isinstance(a, Node) and a not in varying else a for a in node.args]

        def call(*tensors: Tensor) -> Tensor:
            given = dict(zip(varying, tensors, strict=True))
            with torch.no_grad():
                spikes: Tensor = module(*(given[a] if isinstance(a, Node) and a in given else a for a in fixed))
            return spikes

        if len(varying) == 2:
            symbol = comparison_of_two(name, call)
            return Term(f"{self.terms[varying[0]]} {symbol} {self.terms[varying[1]]}", is_atom=False)
        symbol, threshold = comparison(name, call)
        return Term(f"{self.terms[varying[0]]} {symbol} {number(threshold)}", is_atom=False)


def _state_name(index: int) -> str:
    return f"v{index + 1}" if index else "v"


def _per_channel(node: Node, value: Tensor, shape: tuple[int, ...]) -> tuple[float, ...]:
    """Value of each channel (dimension 1), of a constant that is broadcast to `shape`."""
    try:
        full = value.expand(shape)
    except RuntimeError as error:
        raise CaptureError(_wrong_constant(node, value)) from error
    channels = full[0].reshape(full.shape[1], -1)[:, 0] if len(shape) > 1 else full[:1]
    view = channels.view(-1, *[1] * (len(shape) - 2)) if len(shape) > 1 else channels
    if not torch.equal(full, view.expand(shape)):
        raise CaptureError(_wrong_constant(node, value))
    return tuple(float(v) for v in channels)


def _wrong_constant(node: Node, value: Tensor) -> str:
    return (
        f"constant '{node.name}'{line_of(node)} of a neuron has shape {list(value.shape)} and another value at each "
        "place; one number, or one per channel, is supported; give it the shape [C] behind a linear layer or "
        f"[C, 1, 1] behind a convolution, or {WAY_OUT}"
    )


def _sources(node: Node) -> Iterator[Node]:
    """Parameters that a constant is made of."""
    if node.op == "get_attr":
        yield node
    for argument in node.all_input_nodes:
        yield from _sources(argument)


def _node_leaves(node: Node) -> list[Node]:
    """Arguments that are nodes, each as often as it stands there."""
    found: list[Node] = []
    map_aggregate((node.args, dict(node.kwargs)), lambda a: found.append(a) if isinstance(a, Node) else None)
    return found
