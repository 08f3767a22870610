"""The first values of a neuron's states, and the proof by trial that its equations are what the graph computes.

Python has folded `0 * beta` away at the first step, so that the first values do not stand in the graph. They are found
by trying the numbers that do, on random currents: step 0 of the graph and of the equations must give equal numbers.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor
from torch.fx import Node

from spikenm_compile.errors import CaptureError
from spikenm_compile.frontend.inline.evaluate import Values
from spikenm_compile.frontend.inline.places import Places
from spikenm_compile.frontend.inline.region import WAY_OUT, Region, line_of
from spikenm_compile.frontend.proxy import VALUE
from spikenm_compile.neurons import Neuron, step

MAX_TRIALS = 500
NUM_SAMPLES = 3


def with_first_values(places: Places, region: Region, neuron: Neuron, names: Mapping[Node, str]) -> Neuron:
    """The neuron with the first values of its states.

    Args:
        places: steps and places of the captured graph.
        region: the neuron's nodes.
        neuron: with any first values.
        names: nodes of the last step that are states or leave the neuron -> name.

    Raises:
        CaptureError: no first values make step 0 equal, or the equations do not compute what a later step does.
    """
    torch_state = torch.get_rng_state()
    torch.manual_seed(0)
    try:
        _check_last_step(places, region, neuron, names)
        expected = [_first_step(places, region, names) for _ in range(NUM_SAMPLES)]
    finally:
        torch.set_rng_state(torch_state)
    found = set(_numbers(places, region, neuron))
    candidates = sorted(found, key=lambda v: (v != 0.0, abs(v), v))
    carried = [names[after] for _, after in region.states]
    for values in itertools.islice(itertools.product(candidates, repeat=len(carried)), MAX_TRIALS):
        states = {**dict.fromkeys(neuron.states, 0.0), **dict(zip(carried, values, strict=True))}
        if all(_gives(inputs, states, neuron, wanted) for inputs, wanted in expected):
            return dataclasses.replace(neuron, states=states)
    sink = region.updates[-1]
    raise CaptureError(
        f"the first time step of the neuron at '{sink.name}'{line_of(sink)} ({neuron}) computes something else than "
        "the later ones, whatever number its states start at; steps that are copies of one another are supported; "
        f"{WAY_OUT}"
    )


def _first_step(places: Places, region: Region, names: Mapping[Node, str]) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Random currents, and what the graph makes of them at step 0."""
    inputs = {places.at(node, 0): _random(node) for node in region.inputs}
    nodes = {name: places.at(node, 0) for node, name in names.items()}
    missing = next((name for name, node in nodes.items() if node is None), None)
    if None in inputs or missing is not None:
        sink = region.updates[-1]
        raise CaptureError(
            f"the time steps of the neuron at '{sink.name}'{line_of(sink)} differ: step 0 or a later one computes no "
            f"'{missing or 'x'}'; steps that are copies of one another are supported; {WAY_OUT}"
        )
    values = Values(places.graph_module, {node: current for node, current in inputs.items() if node is not None})
    return list(inputs.values()), {name: values[node] for name, node in nodes.items() if node is not None}


def _check_last_step(places: Places, region: Region, neuron: Neuron, names: Mapping[Node, str]) -> None:
    given = {node: _random(node) for node in region.inputs}
    given |= {old: _random(old) for old, _ in region.states}
    values = Values(places.graph_module, given)
    inputs = [given[node] for node in region.inputs]
    states = {name: torch.zeros_like(inputs[0]) for name in neuron.states}
    states |= {names[after]: given[old] for old, after in region.states}
    wanted = {name: values[node] for node, name in names.items()}
    if not _equal(inputs, states, neuron, wanted):
        sink = region.updates[-1]
        raise CaptureError(
            f"the equations read from the neuron at '{sink.name}'{line_of(sink)} ({neuron}) do not compute what it "
            f"does, bit for bit; arithmetic in float32 on values of one shape is supported; {WAY_OUT}"
        )


def _gives(inputs: list[Tensor], first: Mapping[str, float], neuron: Neuron, wanted: Mapping[str, Tensor]) -> bool:
    return _equal(inputs, {name: torch.full_like(inputs[0], v) for name, v in first.items()}, neuron, wanted)


def _equal(inputs: list[Tensor], states: Mapping[str, Tensor], neuron: Neuron, wanted: Mapping[str, Tensor]) -> bool:
    output, after = step(inputs, states, neuron)
    found = {**dict(zip(neuron.states, after, strict=True)), neuron.output: output}
    return all(
        w.shape == found[name].shape and bool(((w == found[name]) | (w.isnan() & found[name].isnan())).all())
        for name, w in wanted.items()
    )


def _random(node: Node) -> Tensor:
    """Values of several magnitudes, of either sign."""
    shape = node.meta[VALUE].shape
    return torch.randn(shape) * 10.0 ** torch.empty(shape).uniform_(-1.5, 1.0)


def _numbers(places: Places, region: Region, neuron: Neuron) -> Iterator[float]:
    """Zero, and every number that step 0 is computed with."""
    yield 0.0
    yield from neuron.scalars.values()
    values, met = Values(places.graph_module, {}), set[Node]()
    waiting = [n for u in region.updates if (n := places.at(u, 0)) is not None]
    while waiting:
        node = waiting.pop()
        if node in met:
            continue
        met.add(node)
        if not places.varies[node]:
            yield from _uniform(values.constant(node))
        elif node in places.elementwise:
            yield from (float(a) for a in node.args if isinstance(a, int | float))
            waiting.extend(node.all_input_nodes)


def _uniform(value: object) -> Iterator[float]:
    """The number that a constant consists of, if it is one."""
    if isinstance(value, int | float):
        yield float(value)
    elif isinstance(value, Tensor) and value.numel() > 0 and bool((value == value.flatten()[0]).all()):
        yield float(value.flatten()[0])
