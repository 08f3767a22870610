"""Insert mask learners: give every layer between spiking neurons a mask that it learns.

    Given:   %conv1 = Conv2d[conv1](%x)   %lif1 = LIF[lif1](%conv1)   %conv2 = Conv2d[conv2](%lif1)   …
    Result:  %conv1 = Conv2d[conv1](%x)   %lif1 = LIF[lif1](%conv1)   %conv2 = MaskedConv2d[conv2](%lif1)   …

The graph is the captured one, whose submodules are the user's own, so that the user's model changes in place: the nodes
stay as they are and the layers they call mask their weights. A layer is chosen when a spiking neuron stands before and
another behind it, as one that feeds a neuron's spikes back to it always does, and its input channels split into whole
groups; every other layer stays dense and says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor, nn
from torch.fx import GraphModule, Node

from spikenm_compile.errors import InputError, PassError, PatternError
from spikenm_compile.frontend.adapters import is_neuron, wiring
from spikenm_compile.graph import module_of
from spikenm_compile.learning.attach import CONVOLUTIONS, attach_mask, learner_of, masked_layers, original_class
from spikenm_compile.learning.choice import (
    BETWEEN_NEURONS,
    CLASSIFIER,
    FIRST_LAYER,
    ON_REQUEST,
    Choice,
    obstacle,
)
from spikenm_compile.learning.learners import pattern_for
from spikenm_compile.learning.options import MaskOptions
from spikenm_compile.passes.base import Pass
from spikenm_compile.pattern import Pattern


@dataclass(frozen=True)
class InsertMaskLearners(Pass):
    """Attach a mask learner to every layer that `choose` gives a pattern.

    Args:
        pattern: N:M, V:N:M or N:M@stagger of the layers that are not named in `layers`.
        options: how the masks are learned.
        layers: layer name -> its own pattern, or None to leave it dense.
    """

    name: ClassVar[str] = "insert-mask-learners"

    pattern: Pattern
    options: MaskOptions = field(default_factory=MaskOptions)
    layers: Mapping[str, Pattern | str | None] = field(default_factory=dict)

    def choose(self, graph_module: GraphModule) -> tuple[Choice, ...]:
        """Decide for every convolution and Linear of the captured graph, in its order; changes nothing.

        Raises:
            PassError: a layer has a mask already, of another pattern or learned in another way.
            InputError: `layers` names a layer that is not there.
            PatternError: `layers` asks for a pattern that its layer cannot hold, or no layer can hold any.
        """
        self._refuse_other_masks(graph_module)
        found = _weighted_layers(graph_module)
        self._refuse_unknown_layers(found)
        neurons = [n for n in graph_module.graph.nodes if _calls_neuron(graph_module, n)]
        behind = _reachable(neurons, lambda n: n.users)
        before = _reachable(neurons, lambda n: n.all_input_nodes)
        owners: dict[int, str] = {}
        choices = []
        for name, weighted in found.items():
            layer = weighted.layer
            owner = owners.setdefault(id(layer.weight), name)
            tied = weighted.problem if owner == name else f"shares its weight with layer '{owner}'"
            position = _position(weighted.calls, behind, before) if weighted.calls else None
            choices.append(self._choose_one(name, layer, tied, position))
        if not any(c.pattern for c in choices):
            reasons = "; ".join(f"'{c.layer}': {c.why}" for c in choices) or "no convolution or Linear at all"
            raise PatternError(
                f"no layer can learn {self.pattern} masks ({reasons}); name one to prune: layers={{'conv2': '2:4'}}"
            )
        return tuple(choices)

    def apply(self, graph_module: GraphModule) -> bool:
        """Attach the learners that are missing. Errors as in `choose`."""
        chosen = {c.layer: c.pattern for c in self.choose(graph_module) if c.pattern is not None}
        missing = [name for name in chosen if learner_of(graph_module.get_submodule(name)) is None]
        for name in missing:
            attach_mask(graph_module.get_submodule(name), chosen[name], self.options, name)
        return bool(missing)

    def _refuse_other_masks(self, graph_module: GraphModule) -> None:
        for name, _, learner in masked_layers(graph_module):
            if learner.pattern != self._asked(name) or learner.options != self.options:
                raise PassError(
                    f"layer '{name}' learns a {learner.pattern} mask already, and another pattern or other "
                    "options are asked for; a model is transformed once: fold it before transforming it again"
                )

    def _refuse_unknown_layers(self, known: Iterable[str]) -> None:
        unknown = sorted(set(self.layers).difference(known))
        if unknown:
            raise InputError(
                f"layers names '{unknown[0]}', which is not a convolution or Linear of the model; it has "
                f"{', '.join(known)}"
            )

    def _asked(self, name: str) -> Pattern | None:
        pattern = self.layers.get(name, self.pattern)
        return None if pattern is None else pattern_for(Pattern.parse(pattern), self.options)

    def _choose_one(self, name: str, layer: nn.Module, tied: str | None, position: str | None) -> Choice:
        kind = original_class(layer).__name__
        assert isinstance(layer.weight, Tensor)
        shape = tuple(layer.weight.shape)
        if name not in self.layers:
            usual = pattern_for(self.pattern, self.options)
            why_dense = position or tied or obstacle(layer, usual)
            return Choice(name, kind, shape, None if why_dense else usual, why_dense or BETWEEN_NEURONS)
        pattern = self._asked(name)
        problem = None if pattern is None else tied or obstacle(layer, pattern)
        if problem is not None:
            raise PatternError(
                f"layer '{name}' cannot hold {pattern}: {problem}; choose another pattern or None in layers"
            )
        return Choice(name, kind, shape, pattern, ON_REQUEST)


@dataclass
class _Weighted:
    """A convolution or Linear of the model."""

    layer: nn.Module
    calls: list[Node] = field(default_factory=list)
    """Nodes that call it; none where it is inside a neuron module."""
    problem: str | None = None
    """Why it can hold no mask, whatever its size."""


def _weighted_layers(graph_module: GraphModule) -> dict[str, _Weighted]:
    """Name of each convolution and Linear -> what is known of it; those inside neurons at the place of the neuron."""
    found: dict[str, _Weighted] = {}
    for node in graph_module.graph.nodes:
        name, module = str(node.target), module_of(graph_module, node)
        if module is not None and isinstance(module, (*CONVOLUTIONS, nn.Linear)):
            found.setdefault(name, _Weighted(module)).calls.append(node)
        elif module is not None and is_neuron(module) and (wires := wiring(module)) is not None:
            problem = None if wires.unmaskable is None else f"not maskable: {wires.unmaskable}"
            inside = ((p, layer) for p, layer in wires.layers() if isinstance(layer, (*CONVOLUTIONS, nn.Linear)))
            found |= {f"{name}.{path}": _Weighted(layer, problem=problem) for path, layer in inside}
    return found


def _calls_neuron(graph_module: GraphModule, node: Node) -> bool:
    module = module_of(graph_module, node)
    return module is not None and is_neuron(module)


def _reachable(start: Iterable[Node], neighbours: Callable[[Node], Iterable[Node]]) -> set[Node]:
    """Nodes that `start` reaches in one step or more."""
    found: set[Node] = set()
    waiting = list(start)
    while waiting:
        for node in neighbours(waiting.pop()):
            if node not in found:
                found.add(node)
                waiting.append(node)
    return found


def _position(nodes: list[Node], behind: set[Node], before: set[Node]) -> str | None:
    """Why a layer called by `nodes` is not between neurons, or None where one of its calls is."""
    if any(n in behind and n in before for n in nodes):
        return None
    return CLASSIFIER if any(n in behind for n in nodes) else FIRST_LAYER
