"""What a CUDA kernel computes, for any batch: the border between the program's planner and the kernels.

Each spec has a `name` (a C identifier, unique in a program) and says where its values lie. The parameters of the kernel
that `build.build_kernel` makes of it are, by name:

    batch                   number of samples, int32
    source, other           what it reads (`source0`, `source1`, ... of a neuron with several inputs)
    weights, scale, bias    of a convolution: packed by `GeneratedKernel.pack`, float32 [O], float32 [O]
    constant_NAME           a neuron's constant per channel, float32 [C]
    state_NAME              a neuron's state, `Reals` of one step: read before the first step, written after the last;
                            without `keeps_states` only where registers cannot hold all steps: else it begins at the
                            neuron's first value and is lost
    number                  of a `ScalarSpec` without one, float
    out                     what it writes
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from spikenm_compile.levels import Levels
from spikenm_compile.lowering.cuda.tensors import LevelBytes, Planes, Reals, SpikeWords
from spikenm_compile.lowering.kernels.values import Operation
from spikenm_compile.lowering.layout import Geometry
from spikenm_compile.neurons import Neuron

Whole = SpikeWords | LevelBytes
Value = SpikeWords | LevelBytes | Reals


@dataclass(frozen=True)
class NeuronSpec:
    """Neurons on currents that lie in memory. `out` has T steps; a source with one step is the same at each."""

    name: str
    sources: tuple[Reals, ...]
    out: Value
    neuron: Neuron
    keeps_states: bool = True


@dataclass(frozen=True)
class ConvSpec:
    """Convolution of levels with int8 weights: float32 current, or what the neurons that it feeds emit.

    current = float32(Σ weight · level) · scale + bias. `source` and `out` have the same steps; the halo of the source
    is at least the padding.
    """

    name: str
    source: Whole
    out: Value
    geometry: Geometry
    groups: int = 1
    is_sparse: bool = False
    """At most two of each four consecutive input channels of a tap have a weight."""
    neuron: Neuron | None = None
    keeps_states: bool = True


@dataclass(frozen=True)
class QuantizeSpec:
    """out = round(source / scale), saturated, for the network's input."""

    name: str
    source: Planes
    out: LevelBytes
    levels: Levels


@dataclass(frozen=True)
class PoolSpec:
    """Maximum of spikes, levels or reals, or sum of whole numbers into levels; only pixels inside the image count."""

    name: str
    kind: Literal["max", "sum"]
    source: Value
    out: Value
    geometry: Geometry


@dataclass(frozen=True)
class JoinSpec:
    """out = operation(source, other), element by element; whole numbers unless `out` is Reals."""

    name: str
    operation: Operation
    source: Value
    other: Value
    out: Value


@dataclass(frozen=True)
class ScalarSpec:
    """out = operation(source, number) in float32, or operation(number, source) unless `is_left`."""

    name: str
    operation: Operation
    source: Value
    number: float | None
    """None: the parameter `number`, a float, for what depends on the number of steps."""
    out: Value
    """Spikes of `1 - spikes`, else reals."""
    is_left: bool = True


@dataclass(frozen=True)
class AccumulateSpec:
    """out = operation(out, source[t]) for each step t in turn, in float32; `out` has one step."""

    name: str
    operation: Operation
    source: Value
    out: Reals
    steps: int
    """T; the source has as many steps, or one that is the same at each."""


@dataclass(frozen=True)
class ConvertSpec:
    """The same values in another layout: bits to bytes, whole numbers to reals, another halo, planes, fewer steps."""

    name: str
    source: Value | Planes
    out: Value | Planes
    first: int = 0
    """Step of the source that becomes step 0."""


KernelSpec = NeuronSpec | ConvSpec | QuantizeSpec | PoolSpec | JoinSpec | ScalarSpec | AccumulateSpec | ConvertSpec
