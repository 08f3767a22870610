"""Insert mask learners: give every layer between spiking neurons a mask that it learns, and all of them whole numbers.

    Given:   %conv1 = Conv2d[conv1](%x)   %lif1 = LIF[lif1](%conv1)   %conv2 = Conv2d[conv2](%lif1)   …
    Result:  %conv1 = Conv2d[conv1](%x)   %lif1 = LIF[lif1](%conv1)   %conv2 = MaskedConv2d[conv2](%lif1)   …

The graph is the captured one, whose submodules are the user's own, so that the user's model changes in place: the nodes
stay as they are and the layers they call mask their weights. A layer is chosen when a spiking neuron stands before and
another behind it, as one that feeds a neuron's spikes back to it always does, and its input channels split into whole
groups; every other layer stays dense and says why. Where the options name a type of weights, all layers learn to be
whole numbers: the first one int8, since it sees the input and not spikes, the others that type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

from torch import Tensor, nn
from torch.fx import GraphModule, Node

from spikenm_compile.errors import InputError, PassError, PatternError
from spikenm_compile.frontend.adapters import is_neuron, wiring
from spikenm_compile.graph import module_of
from spikenm_compile.learning.attach import (
    CONVOLUTIONS,
    attach_dense,
    attach_mask,
    learner_of,
    learning_layers,
    original_class,
)
from spikenm_compile.learning.choice import (
    BETWEEN_NEURONS,
    CLASSIFIER,
    FIRST_LAYER,
    NO_PATTERN,
    ON_REQUEST,
    Choice,
    closed_weight,
    obstacle,
)
from spikenm_compile.learning.learners import pattern_for
from spikenm_compile.learning.mask import MaskLearner
from spikenm_compile.learning.options import MaskOptions
from spikenm_compile.passes.base import Pass
from spikenm_compile.pattern import Pattern
from spikenm_compile.weight_types import WeightType


@dataclass(frozen=True)
class InsertMaskLearners(Pass):
    """Attach a learner to every layer that `choose` gives a pattern or whole numbers.

    Args:
        pattern: N:M, V:N:M or N:M@stagger of the layers that are not named in `layers`; None: they stay dense.
        options: how the masks are learned, and which whole numbers weights become.
        layers: layer name -> its own pattern, or None to leave it dense.
        weight_types: layer name -> its own whole numbers.
    """

    name: ClassVar[str] = "insert-mask-learners"

    pattern: Pattern | None
    options: MaskOptions = field(default_factory=MaskOptions)
    layers: Mapping[str, Pattern | str | None] = field(default_factory=dict)
    weight_types: Mapping[str, WeightType] = field(default_factory=dict)

    def choose(self, graph_module: GraphModule) -> tuple[Choice, ...]:
        """Decide for every convolution and Linear of the captured graph, in its order; changes nothing.

        Raises:
            PassError: a layer has a mask already, of another pattern or learned in another way.
            InputError: `layers` or `weight_types` names a layer that is not there or cannot be rounded.
            PatternError: `layers` asks for a pattern that its layer cannot hold, or no layer can hold any.
        """
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
        self._refuse_other_learners(graph_module, choices)
        if not any(c.pattern or c.weight_type for c in choices):
            reasons = "; ".join(f"'{c.layer}': {c.why}" for c in choices) or "no convolution or Linear at all"
            masks = f"{self.pattern or 'any'} masks"
            raise PatternError(f"no layer can learn {masks} ({reasons}); name one to prune: layers={{'conv2': '2:4'}}")
        return tuple(choices)

    def apply(self, graph_module: GraphModule) -> bool:
        """Attach the learners that are missing. Errors as in `choose`."""
        chosen = [c for c in self.choose(graph_module) if c.pattern or c.weight_type]
        missing = [c for c in chosen if learner_of(graph_module.get_submodule(c.layer)) is None]
        for choice in missing:
            layer, options = graph_module.get_submodule(choice.layer), self._options_of(choice)
            if choice.pattern is None:
                attach_dense(layer, options, choice.layer)
            else:
                attach_mask(layer, choice.pattern, options, choice.layer)
        return bool(missing)

    def _options_of(self, choice: Choice) -> MaskOptions:
        return replace(self.options, weight_type=choice.weight_type)

    def _refuse_other_learners(self, graph_module: GraphModule, choices: Iterable[Choice]) -> None:
        asked = {c.layer: (c.pattern, self._options_of(c)) for c in choices}
        for name, _, learner in learning_layers(graph_module):
            pattern = learner.pattern if isinstance(learner, MaskLearner) else None
            if (pattern, learner.options) != asked.get(name):
                what = f"a {pattern} mask" if pattern else f"{learner.options.weight_type} weights"
                raise PassError(
                    f"layer '{name}' learns {what} already, and another pattern or other "
                    "options are asked for; a model is transformed once: fold it before transforming it again"
                )

    def _refuse_unknown_layers(self, known: Iterable[str]) -> None:
        for argument, named in (("layers", self.layers), ("weight_types", self.weight_types)):
            unknown = sorted(set(named).difference(known))
            if unknown:
                raise InputError(
                    f"{argument} names '{unknown[0]}', which is not a convolution or Linear of the model; it has "
                    f"{', '.join(known)}"
                )

    def _asked(self, name: str) -> Pattern | None:
        pattern = self.layers.get(name, self.pattern)
        return None if pattern is None else pattern_for(Pattern.parse(pattern), self.options)

    def _numbers(self, name: str, layer: nn.Module, tied: str | None, position: str | None) -> WeightType | None:
        """The whole numbers of a layer, None where it has none or cannot learn them."""
        usual = self.options.weight_type
        if position == FIRST_LAYER and usual is not None:
            usual = "int8"
        problem = tied or closed_weight(layer)
        if problem is None:
            return self.weight_types.get(name, usual)
        if name in self.weight_types:
            raise InputError(
                f"layer '{name}' cannot learn {self.weight_types[name]} weights: {problem}; do not name it in "
                "weight_types"
            )
        return None

    def _choose_one(self, name: str, layer: nn.Module, tied: str | None, position: str | None) -> Choice:
        kind = original_class(layer).__name__
        assert isinstance(layer.weight, Tensor)
        shape = tuple(layer.weight.shape)
        numbers = self._numbers(name, layer, tied, position)
        pattern = self._asked(name)
        if name not in self.layers:
            why_dense = position or tied or (NO_PATTERN if pattern is None else obstacle(layer, pattern))
            return Choice(name, kind, shape, None if why_dense else pattern, why_dense or BETWEEN_NEURONS, numbers)
        problem = None if pattern is None else tied or obstacle(layer, pattern)
        if problem is not None:
            raise PatternError(
                f"layer '{name}' cannot hold {pattern}: {problem}; choose another pattern or None in layers"
            )
        return Choice(name, kind, shape, pattern, ON_REQUEST, numbers)


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
