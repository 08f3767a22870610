"""Layers of whole networks one after the other, each with weights of its own, so that caches are as in a network.

Warm: call upon call. Cold: other memory was walked over before each call. Sums over the layers are compared; ours have
lists, neurons and packing of spikes, the peers neither unless it says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from benchmarks.cpu_driver import NativeCall
from benchmarks.cpu_layers import fits, layer_of
from benchmarks.cpu_native import TimedLayer
from benchmarks.cpu_peers import FP32, INT8, LIF, dense_layer, peers_of
from benchmarks.cpu_results import Row
from benchmarks.cpu_timing import Call, Given, Plan, Runner, random_spikes, take_turns
from benchmarks.cpu_workloads import DENSITY, LAYERS, NETWORKS, NUM_STEPS, Variant
from spikenm_compile.targets.cpu import Cpu
from spikenm_compile.tuning.one_layer import conv_of

WARM, COLD = "warm", "cold"
TUNED = ", tuned"
"""Behind a variant whose kernels are the quickest of those that the layers were measured with."""
PEERS = (*INT8, *(name + LIF for name in INT8), FP32)


def plans(rounds: int) -> dict[str, Plan]:
    """How often networks are timed."""
    return {WARM: Plan(rounds, 1, 3, enough=2.0), COLD: Plan(rounds, 0, 2, is_cold=True, enough=2.0)}


def measure_network(
    network: str, variants: Sequence[Variant], measured: Sequence[Row], cpu: Cpu, rounds: int
) -> Iterator[Row]:
    """Rows of one network.

    Args:
        network: a name in NETWORKS.
        variants: patterns and types of weights; a layer too narrow for a shared pattern has it unshared.
        measured: rows of layers, that the quickest kernels are known from; none: these are left out.
        cpu: that kernels are compiled for.
        rounds: see `plans`.
    """
    rng = np.random.default_rng(0)
    runners: dict[str, Runner] = dict(_peers(network))
    for variant in variants:
        torch.manual_seed(0)
        runners |= _ours(network, variant, measured, cpu, rng)

    def draw() -> Sequence[Given]:
        shapes = [LAYERS[name].input for name in NETWORKS[network]]
        return [Given(random_spikes(shape, NUM_STEPS, DENSITY, rng)) for shape in shapes]

    for how, plan in plans(rounds).items():
        for what, times in take_turns(runners, draw, plan).items():
            yield Row(f"{network} {how}", DENSITY, what, "", what not in PEERS and TUNED not in what, times)


def _peers(network: str) -> dict[str, list[Call]]:
    """A session for each layer, since each has its weights."""
    layers: list[dict[str, Call]] = []
    for name in NETWORKS[network]:
        shape = LAYERS[name]
        dense = dense_layer(conv_of(layer_of(shape, Variant("2:4", "int8")).layer), shape.input, NUM_STEPS)
        layers.append(peers_of(dense, has_lif=True))
    return {peer: [layer[peer] for layer in layers] for peer in PEERS}


def _ours(
    network: str, variant: Variant, measured: Sequence[Row], cpu: Cpu, rng: np.random.Generator
) -> dict[str, list[NativeCall]]:
    """With the kernels that `build` chooses, and with the quickest where these are others."""
    chosen, tuned = [], []
    for name in NETWORKS[network]:
        shape = LAYERS[name]
        own = variant if fits(shape, variant) else Variant(variant.pattern.partition(":")[2], variant.weight_type)
        layer, example = layer_of(shape, own), random_spikes(shape.input, NUM_STEPS, DENSITY, rng)
        built = layer.as_built(DENSITY)
        family, quickest = layer.usual_family(built), _quickest(measured, name, own, layer)
        chosen.append(layer.compile(built, cpu, example))
        is_other = quickest not in (None, family)
        tuned.append(layer.compile(layer.with_family(str(quickest)), cpu, example) if is_other else chosen[-1])
    return {str(variant): chosen} | ({str(variant) + TUNED: tuned} if tuned != chosen else {})


def _quickest(measured: Sequence[Row], place: str, variant: Variant, layer: TimedLayer) -> str | None:
    families = layer.families()
    rows = [r for r in measured if (r.place, r.what, r.x) == (place, str(variant), DENSITY) and r.family in families]
    return min(rows, key=lambda row: row.times.median).family if rows else None
