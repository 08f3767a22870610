"""What the generated C files need to know of a network and its program; no text yet."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import torch
from torch.fx import GraphModule

from spikenm_compile.graph import PER_STEP, REGION, SHAPE, Region, result, the_input
from spikenm_compile.lowering.nodes import size_of
from spikenm_compile.lowering.program import ALIGNMENT, Program, Space, padded
from spikenm_compile.ops import IntConv2d, QuantizeInput

HEADER_BYTES = 64
"""What arena and state begin with."""

STEP_US = 1000
"""Microseconds of a window of events, unless the program that uses the network says otherwise."""


@dataclass(frozen=True)
class InitialValue:
    """`count` floats of the state from float `offset` on begin as `first`."""

    offset: int
    count: int
    first: float


@dataclass(frozen=True)
class Neurons:
    """Spikes of a layer that can be read after a call: bits [t][y + 2 halo][x + 2 halo][pixel_bytes]."""

    name: str
    channels: int
    height: int
    width: int
    halo: int
    offset: int
    """In bytes of the working memory."""
    pixel_bytes: int
    """Channel c is bit c % 8 of byte c // 8 of a pixel."""


@dataclass(frozen=True)
class Weights:
    """A layer of weights."""

    name: str
    kind: str
    pattern: str
    kernel: str
    weights: int
    nonzeros: int


@dataclass(frozen=True)
class Memory:
    """Where a program keeps what the generated files touch. Sizes in bytes."""

    max_steps: int
    params_bytes: int
    work_bytes: int
    neuron_bytes: int
    frame_offset: int
    """Of the input frame in the working memory."""
    initial: tuple[InitialValue, ...]
    neurons: tuple[Neurons, ...]


@dataclass(frozen=True)
class Interface(Memory):
    """A network as its C header describes it."""

    name: str
    """A C identifier."""
    title: str
    target: str
    num_steps: int
    input_shape: tuple[int, int, int]
    """[C, H, W]."""
    input_per_step: bool
    levels: str
    """How input is quantised, for people."""
    output_size: int
    """Values of one output."""
    output_per_step: bool
    layers: tuple[Weights, ...]

    @property
    def prefix(self) -> str:
        """How the names of the program's functions begin."""
        return program_prefix(self.name)

    @property
    def arena_bytes(self) -> int:
        """Header, expanded weights, working memory."""
        return HEADER_BYTES + self.params_bytes + self.work_bytes

    @property
    def state_bytes(self) -> int:
        """Header, states, uint16 counts of events."""
        return HEADER_BYTES + self.neuron_bytes + padded(2 * math.prod(self.input_shape))

    @property
    def pattern(self) -> str:
        """The patterns of all layers that have one."""
        patterns = dict.fromkeys(layer.pattern for layer in self.layers if layer.pattern != "dense")
        return ", ".join(patterns) or "dense"


def identifier(name: str) -> str:
    """The network's name as a C identifier, in lower case."""
    word = re.sub(r"\W+", "_", name.lower(), flags=re.ASCII).strip("_")
    return word if word[:1].isalpha() else f"net_{word}".rstrip("_")


def program_prefix(name: str) -> str:
    """How the names of the functions of the network's program begin."""
    return f"{name}_k"


def memory_of(program: Program) -> Memory:
    """The memory of a native program, which has an input frame."""
    return Memory(
        max_steps=program.max_steps,
        params_bytes=program.sizes[Space.PARAMS],
        work_bytes=program.sizes[Space.ARENA],
        neuron_bytes=program.sizes[Space.STATE],
        frame_offset=program.frame,
        initial=tuple(InitialValue(s["offset"] // 4, math.prod(s["shape"]), s["init"]) for s in program.states),
        neurons=tuple(
            Neurons(
                s["layer"], s["channels"], s["height"], s["width"], s["halo"], s["offset"], -(-s["channels"] // 64) * 8
            )
            for s in program.spikes
        ),
    )


def interface_of(lowered: GraphModule, memory: Memory, *, name: str, target: str, num_steps: int) -> Interface:
    """Collect the facts."""
    source, output = the_input(lowered), result(lowered)
    height, width, channels = size_of(source)
    levels = [str(m.levels) for m in lowered.modules() if isinstance(m, QuantizeInput)]
    return Interface(
        name=identifier(name),
        title=name,
        target=target,
        num_steps=num_steps,
        input_shape=(channels, height, width),
        input_per_step=source.meta[PER_STEP],
        levels=levels[0] if levels else "float32",
        output_size=math.prod(output.meta[SHAPE]),
        output_per_step=output.meta[REGION] is Region.STEP,
        **vars(memory),
        layers=tuple(_weights(m) for m in lowered.modules() if isinstance(m, IntConv2d)),
    )


def _weights(conv: IntConv2d) -> Weights:
    return Weights(
        name=conv.layer,
        kind="conv" if conv.linear_input is None else "linear",
        pattern=str(conv.pattern) if conv.pattern else "dense",
        kernel=conv.kernel,
        weights=conv.weight.numel(),
        nonzeros=int(torch.count_nonzero(conv.weight)),
    )


assert ALIGNMENT == HEADER_BYTES, "what follows a header is aligned as it is"
