"""Recognize neurons that are written inside of forward: each step's nodes become one call of a canonical neuron.

Given:   %add = add(0, %conv)    %s = gt(%add, 1)    %v = where(%s, 0, %add)
         %mul = mul(%v, 0.5)     %add_1 = add(%mul, %conv_1)    %s_1 = gt(%add_1, 1)    ...
Result:  %s = InlineNeuron[neuron_0](%conv)          %s_1 = InlineNeuron[neuron_0](%conv_1)    ...
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

from torch.fx import GraphModule, Node

from spikenm_compile.errors import CaptureError, InputError
from spikenm_compile.frontend.adapters import is_neuron
from spikenm_compile.frontend.inline.elementwise import is_hard, is_sum
from spikenm_compile.frontend.inline.first_step import with_first_values
from spikenm_compile.frontend.inline.normalize import normalize
from spikenm_compile.frontend.inline.places import Places
from spikenm_compile.frontend.inline.region import WAY_OUT, Region, RegionFinder, line_of
from spikenm_compile.frontend.inline.replace import Calls, Uses, remove_unused, replace
from spikenm_compile.frontend.inline.translate import Translator
from spikenm_compile.levels import SPIKES, Levels
from spikenm_compile.neurons import Neuron
from spikenm_compile.neurons.canonical import output_range


@dataclass(frozen=True)
class Recognition:
    """What became of a captured graph."""

    graph_module: GraphModule
    """A copy with neurons; the captured graph itself where none was found."""
    failures: tuple[str, ...]
    """Why what looked like a neuron was left as it is."""


def recognize_neurons(captured: GraphModule) -> Recognition:
    """Find the neurons of a captured graph that are not modules. The captured graph stays as it is."""
    has_neurons = any(is_neuron(m) for m in captured.modules())
    work = GraphModule(captured, copy.deepcopy(captured.graph), class_name=type(captured).__name__)
    normalize(work)
    left_alone, failures = set[str](), list[str]()
    num_found = 0
    while (sink := _next_sink(work, left_alone)) is not None:
        try:
            _replace_one(work, sink)
            num_found += 1
        except (CaptureError, InputError) as error:
            left_alone.add(sink.name)
            if is_hard(work, sink) or not has_neurons:  # else it may well be a readout
                failures.append(str(error))
    if num_found == 0:
        return Recognition(captured, tuple(failures))
    remove_unused(work)
    return Recognition(work, tuple(failures))


def _next_sink(work: GraphModule, left_alone: set[str]) -> Node | None:
    """A node that a neuron ends with: one that fires, in the order of the graph; then one that carries a state."""
    places = Places(work)
    if places.num_steps < 2:
        return None
    finder, uses = RegionFinder(places), Uses(places)
    for node in (*_firing(places, finder), *_integrating(places, finder)):
        if node.name not in left_alone and _is_used(places, finder, uses, node):
            return node
    return None


def _firing(places: Places, finder: RegionFinder) -> Iterator[Node]:
    for node in places.nodes_of(places.num_steps - 1):
        if finder.is_carried(node) and is_hard(places.graph_module, node):
            yield node


def _integrating(places: Places, finder: RegionFinder) -> Iterator[Node]:
    """States, the last one first: it may be made of the others. A total that others are made of comes after these."""
    found = [n for n in reversed(places.nodes_of(places.num_steps - 1)) if finder.takes_state(n)]
    totals = [n for n in found if is_sum(n) and places.before.get(n) in n.args and len(n.args) == 2]
    yield from (n for n in found if n not in totals)
    yield from reversed(totals)


def _is_used(places: Places, finder: RegionFinder, uses: Uses, node: Node) -> bool:
    try:
        region = finder.find([node])
    except CaptureError:
        return True  # to be found again, and said
    is_readout = region.is_plain_sum() and uses.only_at_the_end(region)
    return bool(region.states) and not is_readout and bool(uses.outside(region))


def _replace_one(work: GraphModule, sink: Node) -> None:
    places = Places(work)
    region = RegionFinder(places).find([sink])
    outside = Uses(places).outside(region)
    if not region.inputs:
        raise CaptureError(
            f"the neuron at '{sink.name}'{line_of(sink)} takes no input; neurons with an input current are supported; "
            f"{WAY_OUT}"
        )
    neuron, named = _neuron(places, region, outside)
    replace(places, Calls(region, outside, with_first_values(places, region, neuron, named), named))


def _neuron(places: Places, region: Region, outside: tuple[Node, ...]) -> tuple[Neuron, dict[Node, str]]:
    """The neuron, that emits spikes if anything of it is spikes, then counts, then the first of what leaves it."""
    found: list[tuple[int, Neuron, dict[Node, str]]] = []
    for output in outside:
        translated = Translator(places.graph_module, region, outside, output).translate()
        names = dict(translated.names)
        states = dict.fromkeys([n for n in names.values() if n != "s"], 0.0)
        text = translated.equations, states, translated.constants, names[output]
        neuron = Neuron(*text, levels=None, inputs=translated.inputs)
        levels = _levels(neuron)
        rank = 2 if levels is None else 1 - int(levels == SPIKES)
        found.append((rank, dataclasses.replace(neuron, levels=levels), names))
    _, best, best_names = min(found, key=lambda f: f[0])
    return best, best_names


def _levels(neuron: Neuron) -> Levels | None:
    """Spikes, counts that fit a byte, or None."""
    found = output_range(neuron)
    if not (found.is_whole and found.is_bounded):
        return None
    levels = Levels(min(0, int(found.low)), max(1, int(found.high)))
    return levels if levels.fits_a_byte else None
