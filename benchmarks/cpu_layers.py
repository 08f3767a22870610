"""Layers one by one: every kernel family that takes one against ONNX Runtime and PyTorch, at several densities."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.cpu_driver import NativeCall
from benchmarks.cpu_native import TimedLayer
from benchmarks.cpu_peers import COMPILED, dense_layer, peers_of
from benchmarks.cpu_results import Row
from benchmarks.cpu_timing import Call, Given, Levels, Plan, Times, random_spikes, take_turns
from benchmarks.cpu_workloads import DENSITY, NUM_STEPS, Shape, Variant, make_layer
from spikenm_compile.passes.select_kernels import DENSE_ROWS, EVENT_ROWS
from spikenm_compile.pattern import Pattern
from spikenm_compile.targets.cpu import Cpu
from spikenm_compile.tuning.one_layer import conv_of

COMPILED_LAYERS = ("c128@16", "c512@4")
"""Where torch.compile is measured too, at `DENSITY`: it compiles for half a minute."""
BUILT = "as built"
"""A kernel that is not the usual one of a family, for example two that the spikes of a call decide between."""
SMALL = 4
"""Pixels up to which a call takes so few microseconds that it takes many to bring its weights near."""


@dataclass(frozen=True, eq=False)
class Kernels:
    """The variants of a layer, and the kernels that compute them."""

    layers: dict[Variant, TimedLayer]
    names: dict[tuple[Variant, str], str]
    """A variant and a family -> name in `calls`; kernels that do the same work are one call."""
    calls: dict[str, NativeCall]


def compile_variants(shape: Shape, variants: Sequence[Variant], cpu: Cpu, example: Levels) -> Kernels:
    """Compile and check every family of every variant that the layer can hold."""
    kernels = Kernels({v: layer_of(shape, v) for v in variants if fits(shape, v)}, {}, {})
    for variant, layer in kernels.layers.items():
        for family in layer.families():
            name = _work_of(layer, family, variant)
            kernels.names[variant, family] = name
            if name not in kernels.calls:
                kernels.calls[name] = layer.compile(layer.with_family(family), cpu, example)
    return kernels


def layer_of(shape: Shape, variant: Variant) -> TimedLayer:
    """A variant of a layer with random weights."""
    layer = make_layer(shape, Pattern.parse(variant.pattern), variant.weight_type, DENSITY)
    return TimedLayer(layer, shape.input, NUM_STEPS)


def fits(shape: Shape, variant: Variant) -> bool:
    """Whether a slab of a shared pattern is not larger than the layer."""
    return Pattern.parse(variant.pattern).v <= shape.outputs


def _work_of(layer: TimedLayer, family: str, variant: Variant) -> str:
    """Equal for variants whose kernels do the same: dense rows multiply zeros, event rows add them, and a family that
    takes weights without a pattern makes nothing of masks that are learned, shared or not.
    """
    pattern = Pattern.parse(variant.pattern)
    if family == DENSE_ROWS:
        return family
    if family == EVENT_ROWS or (not pattern.staggered and layer.takes_any_weights(family)):
        return f"{family} {pattern.plain} {variant.weight_type}"
    return f"{family} {variant}"


def measure_layer(
    name: str, shape: Shape, variants: Sequence[Variant], densities: Sequence[float], cpu: Cpu, rounds: int
) -> Iterator[Row]:
    """Rows of one layer."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    example = random_spikes(shape.input, NUM_STEPS, DENSITY, rng)
    kernels = compile_variants(shape, variants, cpu, example)
    dense = dense_layer(conv_of(layer_of(shape, variants[0]).layer), shape.input, NUM_STEPS)
    peers = peers_of(dense, has_lif=True, is_compiled=name in COMPILED_LAYERS)
    plan = Plan(rounds, 16, 32) if shape.size**2 <= SMALL else Plan(rounds, 4, 8)
    for density in densities:
        others = {p: call for p, call in peers.items() if density == DENSITY or COMPILED not in p}
        chosen, built = choose(kernels, density, cpu, example)
        times = take_turns(_runners(kernels.calls | built, others), draw_for(shape, density, rng), plan)
        yield from _rows(name, density, kernels, chosen, times)
        yield from (Row(name, density, peer, "", False, times[peer]) for peer in others)


def choose(
    kernels: Kernels, density: float, cpu: Cpu, example: Levels
) -> tuple[dict[Variant, str], dict[str, NativeCall]]:
    """What `build` chooses for each variant, a family or `BUILT`, and calls of those that are no family's usual."""
    chosen, built = dict[Variant, str](), dict[str, NativeCall]()
    for variant, layer in kernels.layers.items():
        found = layer.as_built(density)
        family = layer.usual_family(found)
        chosen[variant] = family or BUILT
        if family is None:
            built[f"{BUILT} {variant}"] = layer.compile(found, cpu, example)
    return chosen, built


def draw_for(shape: Shape, density: float, rng: np.random.Generator) -> Callable[[], Sequence[Given]]:
    """What gives fresh random inputs."""
    return lambda: [Given(random_spikes(shape.input, NUM_STEPS, density, rng))]


def _runners(calls: Mapping[str, Call], peers: Mapping[str, Call]) -> dict[str, Sequence[Call]]:
    return {name: [call] for name, call in {**calls, **peers}.items()}


def _rows(
    name: str, density: float, kernels: Kernels, chosen: Mapping[Variant, str], times: Mapping[str, Times]
) -> Iterator[Row]:
    for (variant, family), key in kernels.names.items():
        yield Row(name, density, str(variant), family, chosen[variant] == family, times[key])
    for variant in (variant for variant, family in chosen.items() if family == BUILT):
        yield Row(name, density, str(variant), BUILT, True, times[f"{BUILT} {variant}"])
